//! No circle of files: what a file names must not lead back to it. A `mod.rs` declares, re-exports and holds tables;
//! what its children share has a file of its own below them. Rooms that are not there yet are listed, with how many
//! of their files lie in circles: a number that may only shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders below `src`, and how many of their files lie in circles.
const EXCEPTIONS: &[(&str, usize)] = &[("query/logql", 27)];

/// A module: its file, the modules declared in it, and what it takes in by `use`.
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// Name to path, for what it makes known under another module's name.
    taken: BTreeMap<String, Vec<String>>,
    /// Paths named in its code, made absolute.
    named: Vec<Vec<String>>,
}

type Tree = BTreeMap<Vec<String>, Module>;

/// The code of a file without comments, strings and what only tests compile.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // One item: a declaration, or a block that ends at its own indentation.
            let indent = line.len() - line.trim_start().len();
            let mut open = false;
            for line in lines.by_ref() {
                open |= line.contains('{');
                let ends = if open { line.trim_end().ends_with('}') } else { line.trim_end().ends_with(';') };
                if ends && line.len() - line.trim_start().len() == indent {
                    break;
                }
            }
            continue;
        }
        let line = line.split("//").next().unwrap_or_default();
        // Who may see a thing is no import.
        let line = match line.split_once("pub(in ").and_then(|(before, rest)| Some((before, rest.split_once(')')?.1))) {
            Some((before, after)) => format!("{before}pub{after}"),
            None => line.to_owned(),
        };
        for (at, piece) in line.split('"').enumerate() {
            code.push_str(if at % 2 == 0 { piece } else { " " });
        }
        code.push('\n');
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The leaves of a `use` tree, as paths; the last part of `a as b` is `b`, told beside its path.
fn leaves(prefix: &[String], tree: &str, out: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(at) = tree.find('{') {
        let mut own = prefix.to_vec();
        own.extend(tree[..at].split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned));
        let inner = tree[at + 1..].trim_end().strip_suffix('}').unwrap_or(&tree[at + 1..]);
        let (mut depth, mut from) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    leaves(&own, &inner[from..at], out);
                    from = at + 1;
                }
                _ => {}
            }
        }
        leaves(&own, &inner[from..], out);
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, known_as) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut own = prefix.to_vec();
    own.extend(path.split("::").map(|part| part.trim().to_owned()).filter(|part| part != "self"));
    let known_as =
        if known_as.is_empty() { own.last().cloned().unwrap_or_default() } else { known_as.trim().to_owned() };
    out.push((own, known_as));
}

/// A path as seen in module `own`, from the root of the crate; `None` for what lies outside of it.
fn absolute(own: &[String], children: &BTreeSet<String>, path: &[String]) -> Option<Vec<String>> {
    let mut base = own.to_vec();
    let rest = match path.first()?.as_str() {
        "crate" => {
            base.clear();
            &path[1..]
        }
        "super" => {
            base.pop();
            &path[1..]
        }
        "self" => &path[1..],
        first if children.contains(first) => path,
        _ => return None,
    };
    base.extend(rest.iter().cloned());
    Some(base)
}

fn read_module(file: &Path, own: &[String], tree: &mut Tree) {
    let text = fs::read_to_string(file).unwrap();
    let code = code_of(&text);
    let mut children = BTreeSet::new();
    for line in code.lines() {
        let line = line.trim();
        let declared = line.split_whitespace().skip_while(|word| word.starts_with("pub")).collect::<Vec<_>>();
        if let ["mod", name] = declared[..]
            && let Some(name) = name.strip_suffix(';')
        {
            children.insert(name.to_owned());
        }
    }
    let (mut taken, mut named) = (BTreeMap::new(), Vec::new());
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let begin = statement.rfind("\nuse ").or_else(|| statement.rfind("\npub use ")).or_else(|| {
            let at = statement.rfind(" use ")?;
            statement[..at]
                .trim_end()
                .rsplit('\n')
                .next()
                .is_some_and(|line| line.trim().starts_with("pub("))
                .then_some(at)
        });
        let begin = begin.or_else(|| statement.trim_start().starts_with("use ").then_some(0));
        let Some(begin) = begin else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(&statement[..begin]);
        let used = statement[begin..].split_once("use ").unwrap().1.trim_end_matches(';');
        let mut found = Vec::new();
        leaves(&[], &used.replace('\n', " "), &mut found);
        for (path, known_as) in found {
            if let Some(path) = absolute(own, &children, &path) {
                taken.insert(known_as, path.clone());
                named.push(path);
            }
        }
    }
    for (at, _) in rest.match_indices("::") {
        let before: String = rest[..at].chars().rev().take_while(|c| is_word(*c)).collect();
        let first: String = before.chars().rev().collect();
        let outer = &rest[..at - first.len()];
        if first.is_empty() || outer.ends_with("::") {
            continue;
        }
        let tail: String = rest[at..].chars().take_while(|c| is_word(*c) || *c == ':').collect();
        let path: Vec<String> = std::iter::once(first.clone())
            .chain(tail.split("::").filter(|part| !part.is_empty()).map(str::to_owned))
            .collect();
        named.extend(absolute(own, &children, &path));
    }
    let folder = if matches!(file.file_name().and_then(|name| name.to_str()), Some("mod.rs" | "lib.rs")) {
        file.parent().unwrap().to_owned()
    } else {
        file.with_extension("")
    };
    for child in &children {
        let mut path = own.to_vec();
        path.push(child.clone());
        let files = [folder.join(format!("{child}.rs")), folder.join(child).join("mod.rs")];
        let file = files.iter().find(|file| file.exists());
        if let Some(file) = file {
            read_module(file, &path, tree);
        }
    }
    tree.insert(own.to_vec(), Module { file: file.to_owned(), children, taken, named });
}

/// The module that defines what a path names: re-exports are followed to where they lead.
fn defining(tree: &Tree, path: &[String], hops: usize) -> Option<Vec<String>> {
    let longest = (0..=path.len()).rev().find(|len| tree.contains_key(&path[..*len]))?;
    let module = &tree[&path[..longest]];
    if let Some(next) = path.get(longest)
        && let Some(taken) = module.taken.get(next)
        && hops < 8
    {
        return defining(tree, taken, hops + 1);
    }
    Some(path[..longest].to_vec())
}

/// Which files each file names.
fn arrows() -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut tree = Tree::new();
    read_module(Path::new("src/lib.rs"), &[], &mut tree);
    let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (own, module) in &tree {
        let from = arrows.entry(module.file.clone()).or_default();
        for path in &module.named {
            if let Some(target) = defining(&tree, path, 0)
                && target != *own
                && !target.is_empty()
            {
                from.insert(tree[&target].file.clone());
            }
        }
        assert!(module.children.iter().all(|child| !child.is_empty()));
    }
    arrows
}

fn reachable<'a>(arrows: &'a BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in &arrows[file] {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

/// Files that lead back to themselves, each with those of its circle.
fn circles() -> Vec<BTreeSet<PathBuf>> {
    let arrows = arrows();
    let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        arrows.keys().map(|file| (file, reachable(&arrows, file))).collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, reached) in &reach {
        if reached.contains(file) && !circles.iter().any(|circle| circle.contains(*file)) {
            circles
                .push(reached.iter().filter(|other| reach[**other].contains(file)).map(|it| (*it).clone()).collect());
        }
    }
    circles
}

#[test]
fn architecture_has_no_circle_of_files() {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut new = Vec::new();
    for circle in circles() {
        for file in &circle {
            let room = EXCEPTIONS.iter().find(|(room, _)| file.starts_with(Path::new("src").join(room)));
            match room {
                Some((room, _)) => *counted.entry(room).or_default() += 1,
                None => new.push(file.clone()),
            }
        }
    }
    assert!(new.is_empty(), "files that lead back to themselves: {new:#?}");
    for (room, files) in EXCEPTIONS {
        let found = counted.get(room).copied().unwrap_or_default();
        assert!(found <= *files, "src/{room} has {found} files in circles, more than the {files} it had");
        assert!(found == *files, "src/{room} has {found} files in circles: lower its number in EXCEPTIONS");
    }
}

#[test]
fn architecture_of_files_is_read_whole() {
    let arrows = arrows();
    assert!(arrows.len() > 200, "only {} files", arrows.len());
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > arrows.len(), "too few arrows");
}
