using Workerd = import "/workerd/workerd.capnp";

# `body` and `head.json` are put beside this file by the benchmark.
const config :Workerd.Config = (
  services = [ ( name = "constant", worker = .constant ) ],
  sockets = [ ( name = "http", address = "127.0.0.1:0", http = (), service = "constant" ) ],
);

const constant :Workerd.Worker = (
  compatibilityDate = "2026-04-01",
  modules = [
    ( name = "constant.mjs", esModule = embed "constant.mjs" ),
    ( name = "body", data = embed "body" ),
    ( name = "head.json", json = embed "head.json" ),
  ],
);
