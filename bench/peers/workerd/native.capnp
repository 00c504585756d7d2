using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    ( name = "native", worker = .native ),
    ( name = "internet", network = ( allow = ["public", "private"] ) ),
  ],
  sockets = [ ( name = "http", address = "127.0.0.1:0", http = (), service = "native" ) ],
);

const native :Workerd.Worker = (
  compatibilityDate = "2026-04-01",
  modules = [ ( name = "native.mjs", esModule = embed "native.mjs" ) ],
  bindings = [
    ( name = "ORIGIN_URL", fromEnvironment = "ORIGIN_URL" ),
    ( name = "EDGE_KEY", fromEnvironment = "EDGE_KEY" ),
    ( name = "JWT_JWKS", fromEnvironment = "JWT_JWKS" ),
    ( name = "CLIENT_IP_HEADER", fromEnvironment = "CLIENT_IP_HEADER" ),
    ( name = "REMEMBER", fromEnvironment = "REMEMBER" ),
  ],
);
