//! The real edge: the built worker on bare workerd, a tap on its line to the origin, and the shop behind it. As many
//! edges as a test wants, each with a line of its own to the one origin.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::caller::{Caller, unique};
use crate::env;
use crate::process::Process;
use crate::shop::{Folder, Shop, ShopPlan, UNLIMITED};
use crate::shopper::Shopper;
use crate::tap::Tap;
use crate::until::{LONG, eventually};

/// In the place of a host's limiter, which bare workerd has none of: refuses the one key that it is told, or fails.
const LIMITER: &str = r#"
export default ({ INSTRUCTION }) => ({
  async limit({ key }) {
    if (INSTRUCTION === "throw") throw new Error("the limiter is away");
    if (INSTRUCTION === "mumble") return {};
    return { success: key !== INSTRUCTION };
  },
});
"#;

/// A shop that is reached as phones reach it.
#[derive(Debug)]
pub struct EdgeShop {
    /// Calls the edge and signs nothing.
    pub phone: Caller,
    /// The line from the edge to the origin.
    pub line: Tap,
    pub edge: Process,
    pub shop: Shop,
    folder: Folder,
}

impl EdgeShop {
    pub async fn start() -> EdgeShop {
        EdgeShop::plan(ShopPlan::new()).await
    }

    pub async fn plan(plan: ShopPlan) -> EdgeShop {
        EdgeShop::built(plan, &EdgePlan::default()).await
    }

    /// With these variables of the edge's, instead of or beside the usual ones.
    pub async fn plan_with(plan: ShopPlan, variables: &[(&str, &str)]) -> EdgeShop {
        EdgeShop::built(plan, &EdgePlan::with(variables)).await
    }

    /// With an edge that is not quite the usual one.
    pub async fn built(plan: ShopPlan, edge: &EdgePlan) -> EdgeShop {
        let Edge { phone, line, process, folder } = Edge::start(edge).await;
        let shop = Shop::launch(plan, phone.base()).await;
        line.lead_to(&shop.origin_url);
        EdgeShop { phone, line, edge: process, shop, folder }
    }

    /// Ends the edge and starts it anew, at another address, with these variables. Who logged in before calls the new one
    /// with [`Shopper::through`].
    pub async fn restart_edge(&mut self, variables: &[(&str, &str)]) {
        let plan = EdgePlan::with(variables);
        let (edge, url) = start_workerd(&self.folder.path, self.line.url(), &plan).await;
        self.edge = edge;
        self.phone = healthy(&url).await;
    }

    /// One more edge in front of the same origin.
    pub async fn another_edge(&self, plan: &EdgePlan) -> Edge {
        let edge = Edge::start(plan).await;
        edge.line.lead_to(&self.shop.origin_url);
        edge
    }

    /// Starts a new origin in the place of the one that was killed.
    pub async fn restart_origin(&mut self) {
        self.shop.restart_origin().await;
        self.line.lead_to(&self.shop.origin_url);
    }

    /// Logs the shopper of this name in, through the edge. Their calls go through the edge too.
    pub async fn shopper(&self, name: &str) -> Shopper {
        Shopper::log_in(&self.phone, name).await
    }
}

/// What is special about an edge.
#[derive(Clone, Debug, Default)]
pub struct EdgePlan {
    /// The build that can be made to trap and whose clock can be moved.
    pub to_provoke: bool,
    /// The address of a server that stands in for the host's Cache API; bare workerd has none.
    pub second_cache: Option<String>,
    /// Variables instead of or beside the usual ones.
    pub variables: Vec<(String, String)>,
}

impl EdgePlan {
    fn with(variables: &[(&str, &str)]) -> EdgePlan {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        EdgePlan { variables: variables.iter().map(owned).collect(), ..EdgePlan::default() }
    }
}

/// One edge.
#[derive(Debug)]
pub struct Edge {
    pub phone: Caller,
    pub line: Tap,
    pub process: Process,
    folder: Folder,
}

impl Edge {
    /// An edge whose line leads nowhere yet.
    async fn start(plan: &EdgePlan) -> Edge {
        let folder = Folder::create();
        let line = Tap::open().await;
        let (process, url) = start_workerd(&folder.path, line.url(), plan).await;
        Edge { phone: healthy(&url).await, line, process, folder }
    }
}

async fn healthy(url: &str) -> Caller {
    let phone = Caller::phone(url);
    eventually(LONG, "the edge is healthy", async || {
        phone.get("/healthz").await.status.eq(&200).then_some(())
    })
    .await;
    phone
}

async fn start_workerd(folder: &Path, origin_url: &str, plan: &EdgePlan) -> (Process, String) {
    // A name of its own each time: the port is read from what this one prints.
    let name = unique("workerd");
    let bundle = env::edge_folder();
    copy_module(&bundle.join("worker.mjs"), &folder.join("worker.mjs"));
    let build = bundle.join(if plan.to_provoke { "build-provoke" } else { "build" });
    for file in files_below(&build) {
        let name = file.strip_prefix(&build).expect("the files are below their folder");
        copy_module(&file, &folder.join("build").join(name));
    }
    fs::write(folder.join("edge.capnp"), configuration(&bundle, folder, origin_url, plan))
        .expect("the folder can be written");
    let mut command = Command::new(env::workerd_binary());
    // The control messages go to standard output, where the port that was chosen can be read.
    command.current_dir(folder).args(["serve", "edge.capnp", "--control-fd=1"]);
    let mut process = Process::start(&name, &mut command, folder, &[]);
    let port = process
        .printed("workerd says which port it listens on", |text| {
            text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()?["port"].as_u64())
        })
        .await;
    (process, format!("http://127.0.0.1:{port}"))
}

/// workerd's configuration; it sits beside copies of the modules, since it can embed only files below itself.
fn configuration(bundle: &Path, folder: &Path, origin_url: &str, plan: &EdgePlan) -> String {
    let (cache_service, cache_outbound) = match &plan.second_cache {
        Some(address) => (
            format!("    ( name = \"cache\", external = ( address = \"{address}\", http = () ) ),\n"),
            "  cacheApiOutbound = \"cache\",\n",
        ),
        None => (String::new(), ""),
    };
    let mut modules = module("worker.mjs");
    for file in files_below(&folder.join("build")) {
        let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        modules.push_str(&module(&name));
    }
    let keys = env::keys_folder().join("keys/edge.env");
    let mut bindings = String::new();
    let mut values = BTreeMap::from([
        ("ORIGIN_URL", origin_url.to_owned()),
        ("EDGE_KEY", env::read_setting(&keys, "EDGE_KEY")),
        ("JWT_JWKS", env::read_setting(&keys, "JWT_JWKS")),
        ("LOCAL_LIMIT_ADDRESS", UNLIMITED.to_owned()),
        ("LOCAL_LIMIT_USER", UNLIMITED.to_owned()),
        ("LOCAL_LIMIT_LOGIN", UNLIMITED.to_owned()),
    ]);
    values.extend(plan.variables.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for (name, value) in values {
        if name.starts_with("LIMIT_") {
            // A limiter of the host's, as [`LIMITER`] behaves under this instruction.
            let _ = writeln!(
                bindings,
                r#"    ( name = "{name}", wrapped = ( moduleName = "farmgate-test:limiter",
      innerBindings = [ ( name = "INSTRUCTION", text = {} ) ] ) ),"#,
                json!(value)
            );
            continue;
        }
        // A capnp text literal escapes as JSON does for the characters that occur here.
        let _ = writeln!(bindings, "    ( name = \"{name}\", text = {} ),", json!(value));
    }
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    ( name = "edge", worker = .edge ),
    # The default network lets a worker reach public addresses alone; the tests' origin is on this machine.
    ( name = "internet", network = ( allow = ["public", "private"] ) ),
{cache_service}  ],
  sockets = [ ( name = "http", address = "127.0.0.1:0", http = (), service = "edge" ) ],
  extensions = [ ( modules = [ ( name = "farmgate-test:limiter", internal = true, esModule = {limiter} ) ] ) ],
);

const edge :Workerd.Worker = (
  compatibilityDate = "{date}",
{cache_outbound}  modules = [
{modules}  ],
  bindings = [
{bindings}  ],
);
"#,
        date = compatibility_date(bundle),
        limiter = json!(LIMITER),
    )
}

fn module(name: &str) -> String {
    let kind = match name.rsplit('.').next() {
        Some("js" | "mjs") => "esModule",
        Some("wasm") => "wasm",
        _ => return String::new(),
    };
    format!("    ( name = \"{name}\", {kind} = embed \"{name}\" ),\n")
}

/// The one in `wrangler.toml`, so that the tests run what is deployed.
fn compatibility_date(bundle: &Path) -> String {
    let file = bundle.join("../wrangler.toml");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = text.lines().find_map(|line| line.strip_prefix("compatibility_date"));
    let date = line.and_then(|line| line.split('"').nth(1));
    date.unwrap_or_else(|| panic!("{} has no compatibility_date", file.display())).to_owned()
}

fn copy_module(file: &Path, target: &Path) {
    fs::create_dir_all(target.parent().expect("a file is in a folder")).expect("the folder can be written");
    fs::copy(file, target)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", file.display()));
}

/// Every module below a folder, in a stable order.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", folder.display()));
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if matches!(path.extension().and_then(|kind| kind.to_str()), Some("js" | "mjs" | "wasm")) {
            files.push(path);
        }
    }
    files.sort();
    files
}
