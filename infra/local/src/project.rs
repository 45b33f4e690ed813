//! The workspace as cargo sees it: where it is, its functions and their local routes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::process;

/// The package whose binaries are the functions.
pub const FUNCTIONS_PACKAGE: &str = "functions";

/// What `cargo metadata` says about the workspace, as far as it matters here.
#[derive(Debug, Clone)]
pub struct Project {
    pub cargo: OsString,
    pub root: PathBuf,
    /// `CARGO_TARGET_DIR` and cargo's configuration have been honoured.
    pub target_dir: PathBuf,
    /// The names of the functions, sorted.
    pub functions: Vec<String>,
    /// In the order of their paths.
    pub routes: Vec<Route>,
}

/// One entry of `[workspace.metadata.lambda.watch.router]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub method: String,
    /// With parameters in braces.
    pub path: String,
    pub function: String,
}

impl Project {
    /// # Errors
    /// When this is not run inside the workspace, or its routes and functions do not fit.
    pub async fn load() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = process::command(&cargo);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        // `cargo run` says where the package is; a bare start finds the workspace from where it
        // is, as cargo does. The working directory stays: a relative CARGO_TARGET_DIR counts
        // from there.
        if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
            let manifest = Path::new(&package).join("Cargo.toml");
            command.arg("--manifest-path").arg(manifest);
        }
        let output = process::output(&mut command).await?;
        ensure!(
            output.status.success(),
            "cargo cannot read the workspace; start with `cargo dev` inside the repository\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Self::parse(cargo, &output.stdout)
    }

    fn parse(cargo: OsString, metadata: &[u8]) -> Result<Self> {
        let metadata: Metadata =
            serde_json::from_slice(metadata).context("cargo's metadata is not as expected")?;
        let routes = metadata.routes();
        let functions = metadata
            .functions()
            .with_context(|| format!("the workspace has no package {FUNCTIONS_PACKAGE}"))?;
        for route in &routes {
            if !functions.contains(&route.function) {
                bail!(
                    "Cargo.toml routes {} {} to {}, which is no binary of the package {}",
                    route.method,
                    route.path,
                    route.function,
                    FUNCTIONS_PACKAGE
                );
            }
        }
        Ok(Self {
            cargo,
            root: metadata.workspace_root,
            target_dir: metadata.target_directory,
            functions,
            routes,
        })
    }

    /// A folder for what only the local stack needs.
    #[must_use]
    pub fn local_dir(&self) -> PathBuf {
        self.target_dir.join("local")
    }

    #[must_use]
    pub fn tools_dir(&self) -> PathBuf {
        self.target_dir.join("tools")
    }

    #[must_use]
    pub fn stack_file(&self) -> PathBuf {
        self.local_dir().join("stack.json")
    }

    /// A command that runs in the workspace and builds into its target folder.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> tokio::process::Command {
        let mut command = process::command(program);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target_dir);
        command
    }

    /// One route of every function that has one.
    #[must_use]
    pub fn one_route_each(&self) -> Vec<&Route> {
        let of = |name: &String| self.routes.iter().find(|route| route.function == *name);
        self.functions.iter().filter_map(of).collect()
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
    /// `null` when Cargo.toml has no such section, and anybody may add other tables.
    #[serde(rename = "metadata")]
    custom: Option<CustomMetadata>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct CustomMetadata {
    lambda: Option<Lambda>,
}

#[derive(Deserialize)]
struct Lambda {
    watch: Option<Watch>,
}

#[derive(Deserialize)]
struct Watch {
    #[serde(default)]
    router: BTreeMap<String, Vec<MethodRoute>>,
}

#[derive(Deserialize)]
struct MethodRoute {
    method: String,
    function: String,
}

impl Metadata {
    fn functions(&self) -> Option<Vec<String>> {
        let package = self.packages.iter().find(|package| package.name == FUNCTIONS_PACKAGE)?;
        let mut names: Vec<String> = package
            .targets
            .iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
            .map(|target| target.name.clone())
            .collect();
        names.sort();
        Some(names)
    }

    fn routes(&self) -> Vec<Route> {
        let watch = self.custom.as_ref().and_then(|custom| custom.lambda.as_ref()?.watch.as_ref());
        let Some(watch) = watch else {
            return Vec::new();
        };
        let flat = watch.router.iter().flat_map(|(path, methods)| {
            methods.iter().map(|route| Route {
                method: route.method.clone(),
                path: path.clone(),
                function: route.function.clone(),
            })
        });
        flat.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn the_workspace_serves_the_table_of_routes() {
        let project = Project::load().await.unwrap();
        let served: BTreeSet<_> = project
            .routes
            .iter()
            .map(|it| (it.method.as_str(), it.path.as_str(), it.function.as_str()))
            .collect();
        let routes = doorward::route::served();
        let table = routes.iter().map(|it| (it.method.as_str(), it.path, it.endpoint.function().name()));
        assert_eq!(served, table.collect());
        let warmed = project.one_route_each().into_iter().map(|route| route.function.clone());
        let without_route = [
            Delivery::load().unwrap().function,
            doorward::route::Function::AnchorAudit.name().to_owned(),
            doorward::route::Function::Authorize.name().to_owned(),
        ];
        let mut warmed: Vec<_> = warmed.chain(without_route).collect();
        warmed.sort();
        assert_eq!(warmed, project.functions);
    }

    #[test]
    fn a_route_to_nowhere_is_named() {
        let metadata = serde_json::json!({
            "packages": [{ "name": "functions", "targets": [] }],
            "target_directory": "/t",
            "workspace_root": "/w",
            "metadata": { "lambda": { "watch": { "router": {
                "/a": [{ "method": "GET", "function": "nope" }],
            } } } },
        });
        let text = serde_json::to_vec(&metadata).unwrap();
        let error = Project::parse("cargo".into(), &text).unwrap_err();
        assert!(error.to_string().contains("GET /a to nope"), "{error}");
    }
}
