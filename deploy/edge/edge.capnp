# The edge on a self-hosted workerd: the same worker as on Cloudflare, in its production configuration. `cargo xtask up
# --edge=workerd` runs this very file. README.md beside it says how to build, start and front it.
#
#   workerd serve edge.capnp                                        listens on 127.0.0.1:8787
#   workerd serve edge.capnp --socket-addr=http=0.0.0.0:8787        in a container, where only nginx can reach it
#
# TLS, the client's address and everything else that a phone could forge are the business of the proxy in front.

using Workerd = import "/workerd/workerd.capnp";
# Written by `cargo xtask edge-build`: the worker and what wasm-pack made of it.
using Built = import "../../edge/build/modules.capnp";

const config :Workerd.Config = (
  services = [
    ( name = "edge", worker = .edge ),
    # The worker calls nobody but ORIGIN_URL. workerd would by itself refuse an origin on a private network, where it
    # should be, and a certificate of a public authority, which it has when it is elsewhere.
    ( name = "internet", network = ( allow = ["public", "private"], tlsOptions = ( trustBrowserCas = true ) ) ),
  ],
  sockets = [ ( name = "http", address = "127.0.0.1:8787", http = (), service = "edge" ) ],
);

const edge :Workerd.Worker = (
  # As in wrangler.toml; a test holds them equal.
  compatibilityDate = "2026-04-01",
  modules = Built.modules,
  # What is not set is null, and the edge takes its own default or says which setting is missing.
  bindings = [
    # The origin: scheme, host and port, nothing more.
    ( name = "ORIGIN_URL", fromEnvironment = "ORIGIN_URL" ),
    # "kid=hex", with commas between several; the first one signs. The edge's one secret.
    ( name = "EDGE_KEY", fromEnvironment = "EDGE_KEY" ),
    # What the origin shows at /.well-known/jwks.json, on one line. Public keys only.
    ( name = "JWT_JWKS", fromEnvironment = "JWT_JWKS" ),
    # The header in which the proxy gives the client's address: x-real-ip with the nginx.conf beside this file.
    ( name = "CLIENT_IP_HEADER", fromEnvironment = "CLIENT_IP_HEADER" ),
    # Milliseconds that the origin has for one request.
    ( name = "ORIGIN_TIMEOUT_MS", fromEnvironment = "ORIGIN_TIMEOUT_MS" ),
    # Sites whose pages may call the shop from a browser, with commas.
    ( name = "CORS_ORIGINS", fromEnvironment = "CORS_ORIGINS" ),
    # How much one address, one shopper and one address that logs in may ask of one process, "<requests>/<s|min|h> burst
    # <at once>". workerd has no limiter that counts for several; the origin does.
    ( name = "LOCAL_LIMIT_ADDRESS", fromEnvironment = "LOCAL_LIMIT_ADDRESS" ),
    ( name = "LOCAL_LIMIT_USER", fromEnvironment = "LOCAL_LIMIT_USER" ),
    ( name = "LOCAL_LIMIT_LOGIN", fromEnvironment = "LOCAL_LIMIT_LOGIN" ),
  ],
);
