//! Files of resources: which files, which documents in them, which objects in those.
//!
//! In come paths (or standard input), out go objects that were read strictly, completed with their defaults and
//! checked, each with the place it came from. Everything is read before anything is written: one wrong document
//! stops the command, and the error names file, document, field and what is allowed.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use libcalico_api::{API_VERSION, Kind, Resource};
use serde_json::Value;

use crate::cli::InputArgs;
use crate::foreign::{Foreign, ForeignKind, mismatch, reasons_of};

/// Documents in one input beyond this are refused: nobody writes that many by hand.
const MAX_BYTES: u64 = 256 << 20;

/// Why files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("no input: give resources with --filename")]
    NoInput,
    #[error("{path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{0}: no resources in it (use --skip-empty to allow that)")]
    Empty(String),
    /// Several things may be wrong with one document; all are listed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Complaint>),
}

/// What is wrong with one document.
#[derive(Debug)]
pub struct Complaint {
    pub place: Place,
    pub reason: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Where an object came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File, or `standard input`.
    pub file: String,
    /// Counted from 1.
    pub document: usize,
    /// Kind and name as far as they could be read.
    pub subject: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        if !self.subject.is_empty() {
            write!(f, " ({})", self.subject)?;
        }
        Ok(())
    }
}

/// What a document holds.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // a few of them, each for a moment
pub enum Item {
    /// An object of Calico's API.
    Calico(Resource),
    /// An object of another group of the Kubernetes API.
    Foreign(Foreign),
}

impl Item {
    /// `IPPool`
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Calico(r) => r.kind().name(),
            Self::Foreign(f) => f.kind.name(),
        }
    }

    /// `NetworkPolicy(default/web)`
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Calico(r) => {
                let (namespace, name) = (r.metadata().namespace.as_str(), r.metadata().name.as_str());
                libcalico_model::ResourceKey::new(r.kind(), namespace, name).to_string()
            }
            Self::Foreign(f) => f.label(),
        }
    }

    /// The object as Calico's, or as several.
    pub fn into_calico(self) -> Result<Vec<Resource>, String> {
        match self {
            Self::Calico(r) => Ok(vec![r]),
            Self::Foreign(f) => f.as_calico(),
        }
    }
}

/// An object and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub item: Item,
    pub place: Place,
}

impl Loaded {
    /// The object as Calico's, or as several. The error names the place.
    pub fn into_calico(self) -> Result<Vec<Resource>, FileError> {
        let Self { item, place } = self;
        item.into_calico().map_err(|reason| FileError::Wrong(vec![Complaint { place, reason }]))
    }
}

/// What the objects are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be stored: they must be complete and right.
    Write,
    /// The same, and documents of Calico's API v1 are read as v3.
    Convert,
    /// To name what is stored: kind, namespace and name count.
    Name,
}

/// Reads everything that the command line names.
pub fn load(args: &InputArgs, purpose: Purpose) -> Result<Vec<Loaded>, FileError> {
    let path = args.filename.as_deref().ok_or(FileError::NoInput)?;
    let texts = texts(path, args.recursive)?;
    load_texts(&texts, &path.display().to_string(), args, purpose)
}

/// Reads texts as if they were files. `whole` names all of them together.
pub fn load_texts(
    texts: &[(String, String)],
    whole: &str,
    args: &InputArgs,
    purpose: Purpose,
) -> Result<Vec<Loaded>, FileError> {
    let mut loaded = Vec::new();
    let mut wrong = Vec::new();
    for (name, text) in texts {
        let before = loaded.len() + wrong.len();
        for (i, document) in split(text).into_iter().enumerate() {
            read_document(name, i + 1, document, args, purpose, &mut loaded, &mut wrong);
        }
        if loaded.len() + wrong.len() == before && !args.skip_empty {
            return Err(FileError::Empty(name.clone()));
        }
    }
    if !wrong.is_empty() {
        return Err(FileError::Wrong(wrong));
    }
    if loaded.is_empty() && !args.skip_empty {
        return Err(FileError::Empty(whole.to_owned()));
    }
    Ok(loaded)
}

/// The whole text of a file, or of standard input for `-`.
pub fn read_text(path: &Path) -> Result<(String, String), FileError> {
    let nothing = || FileError::Empty(path.display().to_string());
    if path.is_dir() {
        let (path, reason) = (path.display().to_string(), "is a directory".to_owned());
        return Err(FileError::Unreadable { path, reason });
    }
    texts(path, false)?.into_iter().next().ok_or_else(nothing)
}

/// The texts of standard input, a file, or the `.yaml`, `.yml` and `.json` files of a directory in order of name.
fn texts(path: &Path, recursive: bool) -> Result<Vec<(String, String)>, FileError> {
    let unreadable = |path: &Path, e: std::io::Error| FileError::Unreadable {
        path: path.display().to_string(),
        reason: e.to_string(),
    };
    if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().take(MAX_BYTES).read_to_string(&mut text);
        read.map_err(|e| unreadable(Path::new("standard input"), e))?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let mut files = Vec::new();
    if path.is_dir() {
        collect(path, recursive, &mut files).map_err(|e| unreadable(path, e))?;
    } else {
        files.push(path.to_owned());
    }
    files
        .into_iter()
        .map(|f| match std::fs::read_to_string(&f) {
            Ok(text) => Ok((f.display().to_string(), text)),
            Err(e) => Err(unreadable(&f, e)),
        })
        .collect()
}

fn collect(dir: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a directory is not followed: it may lead round in a circle.
        if entry.file_type()?.is_dir() {
            if recursive {
                collect(&path, recursive, files)?;
            }
        } else if path.extension().is_some_and(|x| x == "yaml" || x == "yml" || x == "json") {
            files.push(path);
        }
    }
    Ok(())
}

/// Splits a text at lines that begin a YAML document.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|r| r.is_empty() || r.starts_with([' ', '\t', '\r', '\n'])) {
            documents.extend(text.get(start..at));
            // What follows the dashes on their line belongs to the document.
            start = at + "---".len();
        }
        at += line.len();
    }
    documents.extend(text.get(start..));
    documents.retain(|d| d.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')));
    documents
}

/// Reads a text as YAML, of which JSON is a part.
pub fn parse_value(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

fn read_document(
    file: &str,
    document: usize,
    text: &str,
    args: &InputArgs,
    purpose: Purpose,
    loaded: &mut Vec<Loaded>,
    wrong: &mut Vec<Complaint>,
) {
    let value = match parse_value(text) {
        Ok(v) => v,
        Err(reason) => {
            let place = Place { file: file.to_owned(), document, subject: String::new() };
            wrong.push(Complaint { place, reason });
            return;
        }
    };
    for item in items(value) {
        let place = Place { file: file.to_owned(), document, subject: subject_of(&item) };
        match read_object(&item, args, purpose) {
            Ok(item) => loaded.push(Loaded { item, place }),
            Err(reasons) => {
                wrong.extend(reasons.into_iter().map(|reason| Complaint { place: place.clone(), reason }));
            }
        }
    }
}

/// The objects of a document: one, the elements of an array, or the items of a list object.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values.into_iter().flat_map(items).collect(),
        Value::Object(mut map) if map.get("items").is_some_and(Value::is_array) => {
            items(map.remove("items").unwrap_or_default())
        }
        other => vec![other],
    }
}

fn subject_of(v: &Value) -> String {
    let text = |pointer: &str| v.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{kind} {namespace}{slash}{name}").trim().to_owned()
}

fn read_object(v: &Value, args: &InputArgs, purpose: Purpose) -> Result<Item, Vec<String>> {
    let text = |field: &str| v.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    if let Some(kind) = ForeignKind::find(kind, version) {
        return Foreign::read(kind, v, &args.namespace, purpose != Purpose::Name).map(Item::Foreign);
    }
    if purpose == Purpose::Convert && version == crate::v1::VERSION && crate::v1::knows(kind) {
        return crate::v1::convert(v).map(Item::Calico);
    }
    let known = Kind::ALL.iter().copied().find(|k| k.name() == kind).filter(|_| version == API_VERSION);
    let Some(kind) = known else { return Err(vec![unknown_type(kind, version)]) };
    let mut resource = Resource::from_value_strict(kind, v).map_err(|found| reasons_of(&found))?;
    set_namespace(&mut resource, &args.namespace).map_err(|e| vec![e])?;
    if purpose != Purpose::Name {
        let mut complete = resource.clone();
        complete.set_defaults();
        complete.validate().map_err(|found| reasons_of(&found))?;
        // A workload endpoint's name follows from its spec.
        resource.metadata_mut().name = complete.metadata().name.clone();
    }
    Ok(Item::Calico(resource))
}

fn unknown_type(kind: &str, version: &str) -> String {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
    let others: Vec<String> =
        ForeignKind::ALL.iter().map(|k| format!("{} with {}", k.api_version(), k.name())).collect();
    let hint = if version == "v1" && crate::v1::knows(kind) {
        "; this is Calico's API v1: `calicoctl convert` prints what it is in v3"
    } else {
        ""
    };
    format!(
        "unknown resource type ({kind}) and/or version ({version}); allowed: apiVersion {API_VERSION} with kind {}; {}{hint}",
        kinds.join(", "),
        others.join("; ")
    )
}

/// Gives a namespaced object the namespace of the command line, or `default`, where it names none.
pub fn set_namespace(resource: &mut Resource, namespace: &str) -> Result<(), String> {
    if !resource.kind().namespaced() {
        return Ok(());
    }
    let own = &mut resource.metadata_mut().namespace;
    if own.is_empty() {
        let given = if namespace.is_empty() { "default" } else { namespace };
        given.clone_into(own);
    } else if !namespace.is_empty() && own != namespace {
        return Err(mismatch(own, namespace));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn args(dir: &Path) -> InputArgs {
        InputArgs {
            filename: Some(dir.to_owned()),
            recursive: false,
            skip_empty: false,
            namespace: String::new(),
        }
    }

    fn load_text(text: &str) -> Result<Vec<Loaded>, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.yaml");
        std::fs::write(&file, text).unwrap();
        load(&args(&file), Purpose::Write)
    }

    #[test]
    fn documents_are_split_at_dashes_and_empty_ones_do_not_count() {
        assert_eq!(split("a: 1\n---\nb: 2\n---\n# nothing\n---\n"), ["a: 1\n", "\nb: 2\n"]);
        assert_eq!(split("--- {a: 1}\n---not\n"), [" {a: 1}\n---not\n"]);
        assert!(split("\n\n---\n").is_empty());
    }

    #[test]
    fn lists_arrays_and_several_documents_are_read_in_order() {
        let tier = |n: &str| {
            format!(
                "{{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {{name: {n}}}, spec: {{order: 1}}}}"
            )
        };
        let text = format!(
            "{}\n---\n[{}, {}]\n---\n{{apiVersion: v1, kind: List, items: [{}]}}\n",
            tier("a"),
            tier("b"),
            tier("c"),
            tier("d")
        );
        let names: Vec<String> = load_text(&text).unwrap().into_iter().map(|l| l.item.label()).collect();
        assert_eq!(names, ["Tier(a)", "Tier(b)", "Tier(c)", "Tier(d)"]);
    }

    #[test]
    fn an_error_names_file_document_object_field_and_what_is_allowed() {
        let text = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\n---\n\
                    apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {audit: {}}\n";
        let e = load_text(text).unwrap_err().to_string();
        assert!(
            e.contains("f.yaml: document 2 (NetworkPolicy p): spec.audit: unknown field; allowed: egress, "),
            "{e}"
        );
        let text = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/30}\n";
        let e = load_text(text).unwrap_err().to_string();
        assert!(e.contains("document 1 (IPPool p): spec.cidr:"), "{e}");
        let e = load_text("apiVersion: v1\nkind: Pod\n").unwrap_err().to_string();
        assert!(e.contains("unknown resource type (Pod) and/or version (v1)"), "{e}");
        assert!(load_text("# nothing\n").unwrap_err().to_string().contains("--skip-empty"));
    }

    #[test]
    fn a_directory_is_read_in_order_of_name_and_deeper_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let tier =
            |n: &str| format!("apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {n}}}\n");
        std::fs::write(dir.path().join("b.yaml"), tier("b")).unwrap();
        std::fs::write(dir.path().join("a.json"), tier("a")).unwrap();
        std::fs::write(dir.path().join("c.txt"), "no").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/d.yml"), tier("d")).unwrap();
        let names = |a: &InputArgs| -> Vec<String> {
            load(a, Purpose::Write).unwrap().iter().map(|l| l.item.label()).collect()
        };
        let mut a = args(dir.path());
        assert_eq!(names(&a), ["Tier(a)", "Tier(b)"]);
        a.recursive = true;
        assert_eq!(names(&a), ["Tier(a)", "Tier(b)", "Tier(d)"]);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[ -~\n]{0,200}") {
            for d in split(&text) {
                let _ = parse_value(d);
            }
        }
    }
}
