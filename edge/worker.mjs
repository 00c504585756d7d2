// The host's way into the Wasm: asks `hit` first, which answers from memory without a promise, and makes a fresh
// instance when one has trapped. The deciding is all in Rust.
import { initSync, fetch as handle, hit, ready, renew, trapped } from "./build/farmgate_edge.js";
import module from "./build/farmgate_edge_bg.wasm";

initSync({ module });

// Requests that a future in the current instance will answer, each by the function that fails it.
const waiting = new Set();
let generation = 0;

// Nothing that the instance had begun can end: a fresh one takes its place, and all who wait for it are told.
function giveUp(error) {
  console.error("the Wasm instance trapped:", error);
  generation += 1;
  renew();
  ready();
  for (const fail of waiting) fail(error);
  waiting.clear();
}

// Rust's futures run in microtasks, where nobody else would see them trap.
const enqueue = globalThis.queueMicrotask;
globalThis.queueMicrotask = (task) => {
  const born = generation;
  enqueue(() => {
    if (born !== generation) return;
    try {
      task();
    } catch (error) {
      giveUp(error);
    }
  });
};

async function answer(request, env, ctx) {
  let fail;
  const trap = new Promise((_, reject) => waiting.add((fail = reject)));
  try {
    return await Promise.race([handle(request, env, ctx), trap]);
  } catch {
    return trapped(request.method);
  } finally {
    waiting.delete(fail);
  }
}

export default {
  fetch(request, env, ctx) {
    try {
      const { method, headers } = request;
      if (method !== "GET" && method !== "HEAD") return answer(request, env, ctx);
      const header = (name) => headers.get(name) ?? undefined;
      return hit(method === "HEAD", request.url, header("if-none-match"), header("origin")) ?? answer(request, env, ctx);
    } catch (error) {
      giveUp(error);
      return trapped(request.method);
    }
  },
};
