//! The workspace according to cargo: its folders, its functions and their local routes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::process;

/// Package whose binaries are the functions.
pub const FUNCTIONS_PACKAGE: &str = "functions";

/// Relevant part of the output of `cargo metadata`.
#[derive(Debug, Clone)]
pub struct Project {
    pub cargo: OsString,
    pub root: PathBuf,
    /// Target folder. cargo has applied `CARGO_TARGET_DIR` and its configuration.
    pub target_dir: PathBuf,
    /// Names of the functions, sorted.
    pub functions: Vec<String>,
    /// Routes, sorted by path.
    pub routes: Vec<Route>,
}

/// Entry of `[workspace.metadata.lambda.watch.router]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub method: String,
    /// Path with parameters in braces.
    pub path: String,
    pub function: String,
}

impl Project {
    /// # Errors
    /// When the working directory is outside the workspace, or a route names a missing function.
    pub async fn load() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = process::command(&cargo);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        // `cargo run` sets the folder of the package. Without it, cargo searches for the workspace from
        // the working directory. That directory must not change here, because a relative
        // CARGO_TARGET_DIR depends on it.
        if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
            let manifest = Path::new(&package).join("Cargo.toml");
            command.arg("--manifest-path").arg(manifest);
        }
        let output = process::output(&mut command).await?;
        ensure!(
            output.status.success(),
            "cargo cannot read the workspace; run `cargo dev` inside the repository\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Self::parse(cargo, &output.stdout)
    }

    fn parse(cargo: OsString, metadata: &[u8]) -> Result<Self> {
        let metadata: Metadata = serde_json::from_slice(metadata)
            .context("the output of cargo metadata has an unexpected format")?;
        let routes = metadata.routes();
        let functions = metadata
            .functions()
            .with_context(|| format!("the workspace has no package {FUNCTIONS_PACKAGE}"))?;
        for route in &routes {
            if !functions.contains(&route.function) {
                bail!(
                    "Cargo.toml routes {} {} to {}, but the package {} has no such binary",
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

    /// Folder for files of the local stack.
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

    /// Creates a command that runs in the workspace and builds into its target folder.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> tokio::process::Command {
        let mut command = process::command(program);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target_dir);
        command
    }

    /// Returns one route of each function that has a route.
    #[must_use]
    pub fn one_route_each(&self) -> Vec<&Route> {
        let of = |name: &String| self.routes.iter().find(|route| route.function == *name);
        self.functions.iter().filter_map(of).collect()
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageMetadata>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
    /// `null` if Cargo.toml has no such section. Other tools may add other tables.
    #[serde(rename = "metadata")]
    custom: Option<CustomMetadata>,
}

#[derive(Deserialize)]
struct PackageMetadata {
    name: String,
    targets: Vec<TargetMetadata>,
}

#[derive(Deserialize)]
struct TargetMetadata {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct CustomMetadata {
    lambda: Option<LambdaMetadata>,
}

#[derive(Deserialize)]
struct LambdaMetadata {
    watch: Option<WatchMetadata>,
}

#[derive(Deserialize)]
struct WatchMetadata {
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
    async fn local_routes_are_the_route_table() {
        let project = Project::load().await.unwrap();
        let served: BTreeSet<_> = project
            .routes
            .iter()
            .map(|it| (it.method.as_str(), it.path.as_str(), it.function.as_str()))
            .collect();
        let table = doorward::route::table().flat_map(|(function, route)| {
            route.methods().map(move |method| (method.as_str(), route.path, function.name()))
        });
        assert_eq!(served, table.collect());
        let warmed = project.one_route_each().into_iter().map(|route| route.function.clone());
        let without_route = [
            Delivery::load().unwrap().function,
            doorward::route::Function::AnchorAudit.name().to_owned(),
            doorward::route::Function::Authorize.name().to_owned(),
        ];
        // No local part rotates secrets, so nothing calls this function before a user does.
        let unasked = doorward::route::Function::RotateSecret.name().to_owned();
        let mut warmed: Vec<_> = warmed.chain(without_route).chain([unasked]).collect();
        warmed.sort();
        assert_eq!(warmed, project.functions);
    }

    #[test]
    fn route_to_a_missing_function_is_named() {
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
