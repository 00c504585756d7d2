import { initSync, fetch as handle, hit } from "./build/farmgate_edge.js";
import module from "./build/farmgate_edge_bg.wasm";
initSync({ module });
export default {
  fetch(request, env, ctx) {
    const { headers } = request;
    return hit(request.method, request.url, headers.get("if-none-match") ?? undefined, headers.get("origin") ?? undefined)
      ?? handle(request, env, ctx);
  },
};
