//! Citations of documents in source files, links between documents, and the tests of the security rules.
//!
//! A citation is the path of a document from the repository's root, often with an anchor. More anchors of the
//! same document may follow, as in "#rule-1 to #rule-3, #rule-6 and #rule-9". The files are read from the
//! folder, not from git, so that the tests also work in an exported archive.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    fs,
    path::Path,
    sync::LazyLock,
};

use regex::Regex;

/// This file, whose examples are wrong on purpose.
const OWN_FILE: &str = "citations.rs";
/// Folders with built or downloaded files.
const SKIPPED: [&str; 6] = ["target", "node_modules", "build", "cdk.out", "dist", "__pycache__"];
/// Hidden folders that are part of the project.
const HIDDEN: [&str; 2] = [".ci", ".cargo"];
/// Extensions of files that may cite a document.
const CITING: [&str; 11] = ["rs", "ts", "mjs", "js", "py", "toml", "yaml", "yml", "sh", "proto", "md"];

const RULES: &str = "docs/design/security.md";
const INDEX: &str = "docs/design/security-tests.md";
const INDEX_HEAD: &str = "\
# Tests of the security rules

The tests that cite each rule of [security.md](security.md). `DOORWARD_REGENERATE=1 cargo test -p e2e citations`
writes this file. Where no test is named, the whole file holds the rule.
";

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static CITATION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|[^\w/.-]|\.\./)(docs/[\w./-]*?\.md)\b(?:#([a-z0-9-]+))?"));
/// One more anchor: ", #b", " and #b", " to #b"; the text may continue in the next comment line.
static CONTINUATION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^,?(?:\s|///|//!|//|# |\* )+(?:(and|or|to)(?:\s|///|//!|//|# |\* )+)?#([a-z][a-z0-9-]*)")
});
static LINK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\]\(([^)\s]+)(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)"#));
static CODE_SPAN: LazyLock<Regex> = LazyLock::new(|| pattern("`[^`]*`"));
static HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^#{1,6}\s+(.*?)\s*#*$"));
static LINK_TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[([^\]]*)\]\([^)]*\)"));
static ID: LazyLock<Regex> = LazyLock::new(|| pattern(r#"<a (?:id|name)="([^"]+)""#));
static RUST_FUNCTION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(\s*)(?:pub(?:\([a-z]+\))? )?(?:async )?fn (\w+)"));
static TEST_ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*#\[(?:\w+::)*test\b"));
static RULE_HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^#+ Rule (\d+)$"));

/// The project's files by path from its root; the text of those that may cite or be cited.
#[derive(Default)]
struct Repository {
    texts: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

impl Repository {
    fn read() -> Self {
        let mut repository = Self::default();
        repository.add_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), "");
        repository
    }

    fn add_folder(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                let is_hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
                if !is_hidden && !SKIPPED.contains(&name.as_str()) {
                    self.add_folder(&entry.path(), &format!("{path}/"));
                    self.paths.insert(path);
                }
            } else if kind.is_file() {
                let extension = Path::new(&name).extension().and_then(|extension| extension.to_str());
                if extension.map_or(prefix == ".ci/", |extension| CITING.contains(&extension)) {
                    self.texts.insert(path.clone(), fs::read_to_string(entry.path()).unwrap());
                }
                self.paths.insert(path);
            }
        }
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let texts: BTreeMap<_, _> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { paths: texts.keys().cloned().collect(), texts }
    }

    /// Why `path#anchor` cannot be followed.
    fn fault(&self, path: &str, anchor: Option<&str>) -> Option<String> {
        if !self.paths.contains(path) {
            return Some(format!("{path} does not exist"));
        }
        let anchor = anchor?;
        let text = self.texts.get(path).filter(|_| has_extension(path, "md"))?;
        (!anchors(text).contains(anchor)).then(|| format!("{path} has no heading for #{anchor}"))
    }

    /// Every citation and every link that cannot be followed, as `file:line: fault`.
    fn faults(&self) -> BTreeSet<String> {
        let mut faults = BTreeSet::new();
        // The index is generated from existing files, and a separate test checks it.
        let is_checked = |file: &str| !file.ends_with(OWN_FILE) && file != INDEX;
        for (file, text) in self.texts.iter().filter(|(file, _)| is_checked(file)) {
            for Citation { line, path, anchor } in citations(text) {
                let fault = self.fault(&path, anchor.as_deref());
                faults.extend(fault.map(|fault| format!("{file}:{line}: {fault}")));
            }
            if !has_extension(file, "md") {
                continue;
            }
            for (line, target) in links(text) {
                let (path, anchor) = match target.split_once('#') {
                    Some((path, anchor)) => (path, Some(anchor)),
                    None => (target.as_str(), None),
                };
                let path = if path.is_empty() { file.clone() } else { resolved(file, path) };
                let fault = self.fault(&path, anchor);
                faults.extend(fault.map(|fault| format!("{file}:{line}: {fault}")));
            }
        }
        faults
    }

    /// The tests that cite each rule: rule, file, names of tests.
    fn tests_of_rules(&self) -> BTreeMap<u32, BTreeMap<&str, BTreeSet<String>>> {
        let mut found: BTreeMap<u32, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (file, text) in self.texts.iter().filter(|(file, _)| !file.ends_with(OWN_FILE)) {
            for (rule, test) in citing_tests(file, text) {
                let tests = found.entry(rule).or_default().entry(file).or_default();
                tests.extend(test);
            }
        }
        found
    }

    fn rules(&self) -> Vec<u32> {
        let text = self.texts.get(RULES).map_or("", String::as_str);
        RULE_HEADING.captures_iter(text).map(|heading| heading[1].parse().unwrap()).collect()
    }

    /// The text of [`INDEX`].
    fn index(&self) -> String {
        let tests = self.tests_of_rules();
        let mut index = INDEX_HEAD.to_owned();
        for rule in self.rules() {
            write!(index, "\n## Rule {rule}\n\n").unwrap();
            for (file, tests) in tests.get(&rule).into_iter().flatten() {
                let names: Vec<_> = tests.iter().map(|name| format!("`{name}`")).collect();
                let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
                writeln!(index, "- [{file}](../../{file}){names}").unwrap();
            }
        }
        index
    }
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

struct Citation {
    line: usize,
    path: String,
    anchor: Option<String>,
}

fn citations(text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    for cited in CITATION.captures_iter(text) {
        let (start, path) = (cited.get(1).unwrap().start(), &cited[1]);
        let line = text[..start].matches('\n').count() + 1;
        let mut add = |anchor: Option<String>| {
            found.push(Citation { line, path: path.to_owned(), anchor });
        };
        let Some(first) = cited.get(2) else {
            add(None);
            continue;
        };
        add(Some(first.as_str().to_owned()));
        let (mut last, mut rest) = (first.as_str().to_owned(), &text[first.end()..]);
        while let Some(more) = CONTINUATION.captures(rest) {
            let anchor = more[2].to_owned();
            if more.get(1).is_some_and(|word| word.as_str() == "to") {
                for anchor in between(&last, &anchor) {
                    add(Some(anchor));
                }
            }
            add(Some(anchor.clone()));
            rest = &rest[more[0].len()..];
            last = anchor;
        }
    }
    found
}

/// The anchors between two that end in numbers, both excluded.
fn between(from: &str, to: &str) -> Vec<String> {
    let numbered = |anchor: &str| {
        let (name, number) = anchor.rsplit_once('-')?;
        Some((name.to_owned(), number.parse::<u32>().ok()?))
    };
    match (numbered(from), numbered(to)) {
        (Some((name, from)), Some((other, to))) if name == other => {
            (from + 1..to).map(|number| format!("{name}-{number}")).collect()
        }
        _ => Vec::new(),
    }
}

/// The lines of a Markdown text outside of code blocks, with their numbers.
fn prose(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    markdown.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced && !line.starts_with("    ")).then_some((index + 1, line))
    })
}

/// The anchors of a Markdown text, as GitHub makes them.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut uses: HashMap<String, usize> = HashMap::new();
    for (_, line) in prose(markdown) {
        anchors.extend(ID.captures_iter(line).map(|id| id[1].to_owned()));
        let Some(heading) = HEADING.captures(line) else {
            continue;
        };
        let heading = LINK_TEXT.replace_all(&heading[1], "$1").to_lowercase();
        let kept = heading.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
        let slug: String = kept.map(|char| if char == ' ' { '-' } else { char }).collect();
        let count = uses.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

/// The relative links of a Markdown text, with their lines.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in prose(markdown) {
        let text = CODE_SPAN.replace_all(text, "``");
        let targets = LINK.captures_iter(&text).filter_map(|link| link.get(1).or(link.get(2)));
        let relative = targets.map(|target| target.as_str().to_owned()).filter(|target| {
            !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('/')
        });
        found.extend(relative.map(|target| (line, target)));
    }
    found
}

/// `target` as a path from the root, where `file` links to it.
fn resolved(file: &str, target: &str) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|part| *part != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The rules that tests of a file cite, with the test's name; without one for the file as a whole.
fn citing_tests(file: &str, text: &str) -> Vec<(u32, Option<String>)> {
    let mut cited: HashMap<usize, Vec<u32>> = HashMap::new();
    for Citation { line, path, anchor } in citations(text) {
        let number = anchor.as_deref().and_then(|anchor| anchor.strip_prefix("rule-")?.parse().ok());
        if let (RULES, Some(rule)) = (path.as_str(), number) {
            cited.entry(line).or_default().push(rule);
        }
    }
    if file.contains(".test.") || file.starts_with("tests/python/") {
        return cited.into_values().flatten().map(|rule| (rule, None)).collect();
    }
    if !has_extension(file, "rs") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut pending: Vec<u32> = Vec::new();
    let mut is_test = false;
    let mut current: Option<(String, String)> = None;
    let mut of_file: Vec<u32> = Vec::new();
    let mut has_tests = false;
    for (index, line) in text.lines().enumerate() {
        let here = cited.get(&(index + 1)).cloned().unwrap_or_default();
        if let Some((end, name)) = &current {
            found.extend(here.into_iter().map(|rule| (rule, Some(name.clone()))));
            if line == end {
                current = None;
            }
        } else if line.starts_with("//!") {
            of_file.extend(here);
        } else if line.trim_start().starts_with("//") {
            pending.extend(here);
        } else if line.trim_start().starts_with("#[") {
            is_test |= TEST_ATTRIBUTE.is_match(line);
        } else {
            let function = RUST_FUNCTION.captures(line).filter(|_| is_test);
            if let Some(function) = function {
                let name = function[2].to_owned();
                found.extend(pending.drain(..).map(|rule| (rule, Some(name.clone()))));
                current = Some((format!("{}}}", &function[1]), name));
                has_tests = true;
            }
            pending.clear();
            is_test = false;
        }
    }
    // The head of a source file describes its code; the head of a test file describes its tests.
    if has_tests && (file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("/tests.rs")) {
        found.extend(of_file.into_iter().map(|rule| (rule, None)));
    }
    found
}

#[test]
fn every_citation_and_every_link_can_be_followed() {
    let faults = Repository::read().faults();
    let list: Vec<_> = faults.iter().map(String::as_str).collect();
    assert!(faults.is_empty(), "correct these citations and links:\n{}", list.join("\n"));
}

#[test]
fn every_security_rule_is_cited_by_a_test() {
    let repository = Repository::read();
    let (rules, tests) = (repository.rules(), repository.tests_of_rules());
    let numbers: Vec<_> = (1..).take(rules.len()).collect();
    assert!(!rules.is_empty() && rules == numbers, "number the rules of {RULES} without a gap: {rules:?}");
    let untested: Vec<_> = rules.into_iter().filter(|rule| !tests.contains_key(rule)).collect();
    assert!(untested.is_empty(), "no test cites these rules of {RULES}: {untested:?}");
}

#[test]
fn index_of_security_tests_is_up_to_date() {
    let repository = Repository::read();
    let fresh = repository.index();
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(INDEX), fresh).unwrap();
        return;
    }
    let stored = repository.texts.get(INDEX).map_or("", String::as_str);
    assert!(stored == fresh, "{INDEX} is out of date; run DOORWARD_REGENERATE=1 cargo test -p e2e citations");
}

#[test]
fn wrong_citations_and_links_are_reported() {
    const DOCUMENT: &str =
        "# Guide\n## Every `request`\n### [FinHub](#guide) v2.1\n## Rule 1\n## Rule 2\n## Rule 1\n";
    let faults = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().copied().chain([("docs/guide.md", DOCUMENT)]).collect();
        Repository::of(&files).faults().into_iter().collect::<Vec<_>>()
    };
    for right in [
        "// docs/guide.md, docs/guide.md#every-request and docs/guide.md#finhub-v21",
        "// docs/guide.md#rule-1 to #rule-2, #rule-1-1 and #guide",
        "// docs/guide.md#rule-1 and\n    /// #rule-2",
        "// https://example.com/docs/missing.md",
        "// docs/guide.md#rule-1\n#[test]",
    ] {
        assert_eq!(faults(&[("src/a.rs", right)]), [""; 0], "{right}");
    }
    for (wrong, fault) in [
        ("// docs/missing.md", "docs/missing.md does not exist"),
        ("// see `docs/guide.md#nothing`", "docs/guide.md has no heading for #nothing"),
        ("// docs/guide.md#rule-1 and #rule-3", "docs/guide.md has no heading for #rule-3"),
        ("// docs/guide.md#rule-1,\n// #rule-3", "docs/guide.md has no heading for #rule-3"),
        ("// docs/guide.md#rule-2 to #rule-4, #rule-1", "docs/guide.md has no heading for #rule-3"),
        ("\"../docs/missing.md\"", "docs/missing.md does not exist"),
    ] {
        assert_eq!(faults(&[("src/a.rs", wrong)]).first(), Some(&format!("src/a.rs:1: {fault}")), "{wrong}");
    }
    let right = "[a](../docs/guide.md#rule-1) [b](#here) `[c](nowhere.md)`\n```\n[d](nowhere.md)\n```\n# Here\n\n    \
                 [e](nowhere.md)\n[f](https://example.com/nowhere.md)\n";
    assert_eq!(faults(&[("infra/README.md", right)]), [""; 0]);
    for (wrong, fault) in [
        ("[a](nowhere.md)", "infra/nowhere.md does not exist"),
        ("[a](#nowhere)", "infra/README.md has no heading for #nowhere"),
        ("[a](../docs/guide.md#rule-7 \"title\")", "docs/guide.md has no heading for #rule-7"),
        ("[a]: ../guide.md", "guide.md does not exist"),
    ] {
        assert_eq!(faults(&[("infra/README.md", wrong)]), [format!("infra/README.md:1: {fault}")]);
    }
}

#[test]
fn only_citations_of_tests_count_for_a_rule() {
    const SOURCE: &str = "//! docs/design/security.md#rule-1\n\
        // docs/design/security.md#rule-2\nfn helper() {\n    // docs/design/security.md#rule-3\n}\n\
        // docs/design/security.md#rule-4 and #rule-5: reason\n#[tokio::test(flavor = \"multi_thread\")]\n\
        async fn subject_behaves() {\n    check(); // docs/design/security.md#rule-6\n}\n";
    let rules = |file: &str| {
        let repository = Repository::of(&[(file, SOURCE)]);
        let tests = repository.tests_of_rules();
        tests.into_iter().map(|(rule, files)| (rule, files[file].len())).collect::<Vec<_>>()
    };
    assert_eq!(rules("src/a.rs"), [(4, 1), (5, 1), (6, 1)]);
    assert_eq!(rules("tests/a.rs"), [(1, 0), (4, 1), (5, 1), (6, 1)]);
}
