//! Rules for the structure of the source code: unique type names, no import circles, layers, and file sizes.
//!
//! The tests read source files as text. They ignore unit tests, comments and generated files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;

/// Maximum number of lines of a source file, without its unit tests.
const MAX_LINES: usize = 500;
/// Folders with handwritten Rust code.
const SOURCES: [&str; 6] =
    ["shared/src", "functions", "infra/ctl", "infra/local", "infra/package", "tests/src"];
/// Top-level modules of the shared crate by layer. A module must not import from an earlier line.
const LAYERS: [&[&str]; 5] = [
    &["function"],
    &["dialect"],
    &["usecase"],
    &["store", "secrets", "token", "password", "audit", "message"],
    &["domain"],
];

// Known violations. Fix them and remove their entries; do not add entries.
/// Each use case has a `Command` and an `Outcome`; code names them with their module.
const ALLOWED_DUPLICATES: &[&str] = &["Command", "Outcome"];
const ALLOWED_CIRCLES: &[&str] = &[];
const ALLOWED_IMPORTS: &[&str] = &[];
const ALLOWED_TRAITS: &[&str] = &[];
const ALLOWED_SIZES: &[&str] = &[];

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static UNIT_TESTS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^#\[cfg\(test\)\]\s*\n(?:#\[[^\n]*\n)*(?:pub(?:\(crate\))? )?mod \w+"));
static COMMENT: LazyLock<Regex> = LazyLock::new(|| pattern(r"//[^\n]*"));
static TYPE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) (\w+)"));
static PUBLIC_ITEM: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?m)^\s*pub(?:\([^)]*\))? (?:async )?(?:const )?(?:fn|struct|enum|trait|type|const|static|mod) (\w+)",
    )
});
static USE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use\s+([^;]+);"));
static INLINE_PATH: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:crate|super)(?:::\w+)+"));
static TRAIT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^pub trait (\w+)"));

/// A module path inside the shared crate; empty for the crate root.
type ModulePath = Vec<String>;

struct SourceModule {
    code: String,
    public_items: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files under `folder`, with their paths relative to it.
fn rust_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                if !["target", "node_modules"].contains(&name.to_str().unwrap()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(folder).unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// The text of a file without its unit tests.
fn without_unit_tests(text: &str) -> &str {
    UNIT_TESTS.find(text).map_or(text, |tests| &text[..tests.start()])
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs", "proto"].contains(&part.as_os_str().to_str().unwrap()))
}

/// The modules of the shared crate.
fn modules() -> BTreeMap<ModulePath, SourceModule> {
    let files = rust_files(&root().join("shared/src"));
    let handwritten = files.into_iter().filter(|(path, _)| !is_test(path));
    let module = |(path, text): (PathBuf, String)| {
        let mut name: ModulePath =
            path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        name.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
        let code = COMMENT.replace_all(without_unit_tests(&text), "").into_owned();
        let public_items = PUBLIC_ITEM.captures_iter(&code).map(|found| found[1].to_owned()).collect();
        (name, SourceModule { code, public_items })
    };
    handwritten.map(module).collect()
}

/// The paths of a use tree: `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn use_paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let (mut depth, mut branches, mut branch) = (0, Vec::new(), String::new());
    for letter in rest[..rest.rfind('}').unwrap_or(rest.len())].chars() {
        match letter {
            ',' if depth == 0 => branches.push(std::mem::take(&mut branch)),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter != ',' || depth > 0 {
            branch.push(letter);
        }
    }
    branches.push(branch);
    let filled = branches.iter().filter(|branch| !branch.trim().is_empty());
    filled.flat_map(|branch| use_paths(branch)).map(|path| format!("{head}{path}")).collect()
}

/// The module that defines the item at `path`. An item that a module re-exports belongs to the module that defines it.
fn definition(path: &[String], modules: &BTreeMap<ModulePath, SourceModule>) -> Option<ModulePath> {
    for length in (0..=path.len()).rev() {
        let Some(module) = modules.get(&path[..length]) else { continue };
        if let Some(item) = path.get(length).filter(|item| !module.public_items.contains(*item)) {
            let inner: Vec<_> = modules
                .iter()
                .filter(|(name, inner)| {
                    name.len() > length
                        && name[..length] == path[..length]
                        && inner.public_items.contains(item)
                })
                .collect();
            if let [(name, _)] = inner[..] {
                return Some(name.clone());
            }
        }
        return Some(path[..length].to_vec());
    }
    None
}

/// The modules that each module imports. An import from a parent module is left out.
fn imports(modules: &BTreeMap<ModulePath, SourceModule>) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    let of_module = |(name, module): (&ModulePath, &SourceModule)| {
        let in_uses = USE.captures_iter(&module.code).flat_map(|found| use_paths(&found[1]));
        let inline = INLINE_PATH.find_iter(&module.code).map(|found| found.as_str().to_owned());
        let absolute = |path: String| -> Option<Vec<String>> {
            let mut parts = path.split("::").map(|part| part.trim().to_owned()).peekable();
            let mut base = match parts.peek()?.as_str() {
                "crate" => {
                    parts.next();
                    Vec::new()
                }
                "super" | "self" => name.clone(),
                _ => return None,
            };
            while let Some(part) = parts.next_if(|part| ["super", "self"].contains(&part.as_str())) {
                if part == "super" {
                    base.pop();
                }
            }
            base.extend(parts);
            Some(base)
        };
        let targets = in_uses.chain(inline).filter_map(absolute);
        let targets = targets.filter_map(|path| definition(&path, modules));
        (name.clone(), targets.filter(|target| !name.starts_with(target)).collect())
    };
    modules.iter().map(of_module).collect()
}

/// Fails if there are violations that are not allowed, or allowed violations that no longer exist.
fn assert_only_allowed(found: &BTreeSet<String>, allowed: &[&str]) {
    let allowed: BTreeSet<_> = allowed.iter().map(|&entry| entry.to_owned()).collect();
    let new: Vec<_> = found.difference(&allowed).collect();
    assert!(new.is_empty(), "violations:\n{new:#?}");
    let fixed: Vec<_> = allowed.difference(found).collect();
    assert!(fixed.is_empty(), "these violations are fixed; remove them from the allowed ones:\n{fixed:#?}");
}

#[test]
fn type_names_are_unique_in_the_shared_crate() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, module) in modules() {
        for found in TYPE.captures_iter(&module.code) {
            files.entry(found[1].to_owned()).or_default().push(name.join("/"));
        }
    }
    let repeated = files.into_iter().filter(|(_, files)| files.len() > 1).map(|(name, _)| name);
    assert_only_allowed(&repeated.collect(), ALLOWED_DUPLICATES);
}

#[test]
fn modules_do_not_import_each_other_in_a_circle() {
    let imports = imports(&modules());
    let reachable = |from: &ModulePath| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<_> = imports[from].iter().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next.clone()) {
                open.extend(&imports[next]);
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = imports.keys().map(|name| (name, reachable(name))).collect();
    let in_circle = imports.keys().filter(|name| reached[name].contains(*name));
    assert_only_allowed(&in_circle.map(|name| name.join("/")).collect(), ALLOWED_CIRCLES);
}

#[test]
fn imports_follow_the_layers() {
    let layer = |name: &ModulePath| {
        LAYERS.iter().position(|layer| name.first().is_some_and(|top| layer.contains(&top.as_str())))
    };
    let mut found = BTreeSet::new();
    for (name, targets) in imports(&modules()) {
        let upward =
            |target: &&ModulePath| layer(target).zip(layer(&name)).is_some_and(|(to, from)| to < from);
        found.extend(
            targets.iter().filter(upward).map(|target| format!("{} -> {}", name.join("/"), target.join("/"))),
        );
    }
    assert_only_allowed(&found, ALLOWED_IMPORTS);
}

#[test]
fn traits_in_port_have_more_than_one_implementation() {
    let port = fs::read_to_string(root().join("shared/src/port.rs")).unwrap();
    let sources = ["shared", "functions", "infra", "tests"].map(|folder| rust_files(&root().join(folder)));
    let implementations = |name: &str| {
        let implementation = pattern(&format!(r"(?m)^\s*impl(?:<[^\n]*>)? (?:\w+::)*{name} for "));
        let texts = sources.iter().flatten().map(|(_, text)| text);
        texts.map(|text| implementation.find_iter(text).count()).sum::<usize>()
    };
    let names = TRAIT.captures_iter(&port).map(|found| found[1].to_owned());
    assert_only_allowed(&names.filter(|name| implementations(name) < 2).collect(), ALLOWED_TRAITS);
}

#[test]
fn source_files_are_small() {
    let mut found = BTreeSet::new();
    for folder in SOURCES {
        for (path, text) in rust_files(&root().join(folder)) {
            if !is_test(&path) && without_unit_tests(&text).lines().count() > MAX_LINES {
                found.insert(format!("{folder}/{}", path.display()));
            }
        }
    }
    assert_only_allowed(&found, ALLOWED_SIZES);
}
