//! What a self-hosted edge is made of: the list of the worker's modules that `deploy/edge/edge.capnp` imports, and a
//! folder with all of it, laid out as in the checkout, that runs wherever it is copied to.

use crate::edge_host::CONFIGURATION;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// The glue's snippets have names that change with the dependencies, so the list is written by whoever builds.
const MODULES: &str = "edge/build/modules.capnp";
const ENTRY: &str = "edge/worker.mjs";
const BUILD: &str = "edge/build";

/// Writes the list beside what wasm-pack has made.
pub fn write_modules(root: &Path) -> Result<()> {
    let build = root.join(BUILD);
    let mut lines = String::new();
    for file in files_below(&build)? {
        let name = file.strip_prefix(&build)?.to_str().context("a module's name is no text")?.to_owned();
        if let Some(kind) = kind_of(&name) {
            lines.push_str(&format!("  ( name = \"build/{name}\", {kind} = embed \"{name}\" ),\n"));
        }
    }
    let text = format!(
        "# Written by `cargo xtask edge-build`: the worker's modules, the entry first.\n@0xb8f0c2e64d1a7e35;\n\
         using Workerd = import \"/workerd/workerd.capnp\";\n\n\
         const modules :List(Workerd.Worker.Module) = [\n  \
         ( name = \"worker.mjs\", esModule = embed \"../worker.mjs\" ),\n{lines}];\n"
    );
    let path = root.join(MODULES);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn kind_of(name: &str) -> Option<&'static str> {
    match name.rsplit('.').next() {
        Some("js" | "mjs") => Some("esModule"),
        Some("wasm") => Some("wasm"),
        _ => None,
    }
}

/// Copies the configuration, the modules and workerd into `folder`, which must be new or empty.
pub fn copy(root: &Path, workerd: &Path, folder: &Path) -> Result<()> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", folder.display());
    }
    let mut files = vec![root.join(CONFIGURATION), root.join(ENTRY), root.join(MODULES)];
    files.extend(
        files_below(&root.join(BUILD))?
            .into_iter()
            .filter(|file| file.to_str().is_some_and(|name| kind_of(name).is_some())),
    );
    for file in files {
        copy_file(&file, &folder.join(file.strip_prefix(root)?))?;
    }
    copy_file(workerd, &folder.join("workerd"))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// In a fixed order.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("farmgate-bundle-{name}-{}", std::process::id()));
        for (file, text) in [
            ("deploy/edge/edge.capnp", "config"),
            ("edge/worker.mjs", "entry"),
            ("edge/build/glue.js", "glue"),
            ("edge/build/glue_bg.wasm", "wasm"),
            ("edge/build/package.json", "{}"),
            ("edge/build/snippets/x-1/inline0.js", "snippet"),
            ("workerd", "program"),
        ] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn every_module_is_listed_once_and_nothing_else() {
        let root = checkout("list");
        write_modules(&root).unwrap();
        let text = std::fs::read_to_string(root.join(MODULES)).unwrap();
        let names: Vec<&str> =
            text.lines().filter_map(|l| l.split("name = \"").nth(1)?.split('"').next()).collect();
        assert_eq!(
            names,
            ["worker.mjs", "build/glue.js", "build/glue_bg.wasm", "build/snippets/x-1/inline0.js"]
        );
        assert!(text.contains("wasm = embed \"glue_bg.wasm\""), "{text}");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_bundle_is_whole_and_never_mixed_with_an_older_one() {
        let root = checkout("copy");
        write_modules(&root).unwrap();
        let folder = root.join("out");
        copy(&root, &root.join("workerd"), &folder).unwrap();
        for file in [CONFIGURATION, ENTRY, MODULES, "edge/build/snippets/x-1/inline0.js", "workerd"] {
            assert!(folder.join(file).is_file(), "{file}");
        }
        assert!(!folder.join("edge/build/package.json").exists());
        assert!(copy(&root, &root.join("workerd"), &folder).is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
