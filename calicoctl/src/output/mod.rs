//! How objects are printed: `-o ps|wide|custom-columns=…|yaml|json|name|go-template=…|go-template-file=…|jsonpath=…`.
//!
//! In come lists of objects, out goes text. Tables have upstream's columns and padding; documents have its shape: one
//! object by itself, a list as `KINDList`, several lists as an array.

pub mod columns;
pub mod grid;
pub mod table;
pub mod template;
pub mod yaml;

use libcalico_api::{API_VERSION, Kind, Resource};
use serde_json::{Value, json};

use crate::{Error, Result};

/// What `-o` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Ps,
    Wide,
    Yaml,
    Json,
    Name,
    Custom(Vec<String>),
    GoTemplate(String),
    JsonPath(String),
}

const FORMATS: &str = "ps, wide, yaml, json, name, custom-columns=COLUMN[,COLUMN...], go-template=TEMPLATE, \
                       go-template-file=FILE or jsonpath=PATH";

impl Format {
    /// Reads the flag's value.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "ps" | "" => Ok(Self::Ps),
            "wide" => Ok(Self::Wide),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            "name" => Ok(Self::Name),
            _ => match text.split_once('=') {
                Some(("custom-columns", list)) => {
                    let columns: Vec<String> = list
                        .split(',')
                        .map(|c| c.trim().to_ascii_uppercase())
                        .filter(|c| !c.is_empty())
                        .collect();
                    if columns.is_empty() {
                        return Err(Error::Usage("custom-columns= needs the names of columns".to_owned()));
                    }
                    Ok(Self::Custom(columns))
                }
                Some(("go-template", template)) => Ok(Self::GoTemplate(template.to_owned())),
                Some(("go-template-file", path)) => match std::fs::read_to_string(path) {
                    Ok(template) => Ok(Self::GoTemplate(template)),
                    Err(e) => Err(Error::Usage(format!("template file {path}: {e}"))),
                },
                Some(("jsonpath", path)) => Ok(Self::JsonPath(path.to_owned())),
                _ => Err(Error::Usage(format!("unrecognized output format '{text}'; use {FORMATS}"))),
            },
        }
    }
}

/// Objects of one kind that were asked for together.
#[derive(Clone, Debug)]
pub struct Listing {
    pub kind: Kind,
    pub items: Vec<Resource>,
    /// The datastore's revision of a list; `None` where one object was asked for by name.
    pub revision: Option<String>,
}

/// What a table needs besides the objects.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Tables begin with the namespace.
    pub all_namespaces: bool,
    /// The AS number of nodes that name none.
    pub default_as_number: u32,
}

/// The text for standard output.
pub fn render(listings: &[Listing], format: &Format, context: &Context) -> Result<String> {
    match format {
        Format::Ps | Format::Wide | Format::Custom(_) => {
            let mut text = String::new();
            for listing in listings {
                text.push_str(&table(listing, format, context)?);
                text.push('\n');
            }
            Ok(text)
        }
        Format::Name => {
            let lines = listings.iter().flat_map(|l| l.items.iter().map(move |r| name_line(l.kind, r)));
            Ok(lines.collect())
        }
        Format::GoTemplate(template) => {
            let answers: Vec<Value> = listings.iter().flat_map(documents).collect();
            template::go_template(template, &answers)
        }
        Format::JsonPath(path) => template::json_path(path, &document(listings)),
        Format::Yaml => Ok(yaml::to_string(&document(listings))),
        Format::Json => serde_json::to_string_pretty(&in_order(listings))
            .map_err(|e| Error::Usage(format!("the object cannot be written as JSON: {e}"))),
    }
}

fn name_line(kind: Kind, r: &Resource) -> String {
    format!("{}.projectcalico.org/{}\n", kind.name().to_ascii_lowercase(), r.metadata().name)
}

fn table(listing: &Listing, format: &Format, context: &Context) -> Result<String> {
    let mut names: Vec<String> = match format {
        Format::Custom(names) => {
            for name in names {
                columns::check(listing.kind, name)?;
            }
            names.clone()
        }
        Format::Wide => columns::wide(listing.kind).iter().map(|c| (*c).to_owned()).collect(),
        _ => columns::ps(listing.kind).iter().map(|c| (*c).to_owned()).collect(),
    };
    if context.all_namespaces && listing.kind.namespaced() && !matches!(format, Format::Custom(_)) {
        names.insert(0, "NAMESPACE".to_owned());
    }
    let mut rows = vec![names.clone()];
    for r in &listing.items {
        rows.push(names.iter().map(|c| columns::value(r, c, context)).collect());
    }
    Ok(table::render(&rows))
}

/// What is printed as one document.
fn document(listings: &[Listing]) -> Value {
    let mut values: Vec<Value> = listings.iter().flat_map(documents).collect();
    if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
}

fn documents(listing: &Listing) -> Vec<Value> {
    let items: Vec<Value> =
        listing.items.iter().map(|r| serde_json::to_value(r).unwrap_or_default()).collect();
    match &listing.revision {
        None => items,
        Some(revision) => vec![json!({
            "apiVersion": API_VERSION,
            "items": items,
            "kind": format!("{}List", listing.kind),
            "metadata": {"resourceVersion": revision},
        })],
    }
}

/// The same for JSON, where the fields keep the order of the types.
fn in_order(listings: &[Listing]) -> impl serde::Serialize + '_ {
    let one = match listings {
        [Listing { items, revision: None, .. }] if items.len() == 1 => items.first(),
        _ => None,
    };
    match one {
        Some(r) => Document::One(r),
        None if listings.len() == 1 && listings.iter().all(|l| l.revision.is_some()) => {
            Document::List(listings.iter().map(List::of).next())
        }
        None => Document::Many(listings.iter().flat_map(Document::of).collect()),
    }
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Document<'a> {
    One(&'a Resource),
    List(Option<List<'a>>),
    Many(Vec<Document<'a>>),
}

impl<'a> Document<'a> {
    fn of(listing: &'a Listing) -> Vec<Self> {
        match listing.revision {
            None => listing.items.iter().map(Self::One).collect(),
            Some(_) => vec![Self::List(Some(List::of(listing)))],
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: String,
    api_version: &'static str,
    metadata: Value,
    items: &'a [Resource],
}

impl<'a> List<'a> {
    fn of(listing: &'a Listing) -> Self {
        Self {
            kind: format!("{}List", listing.kind),
            api_version: API_VERSION,
            metadata: json!({"resourceVersion": listing.revision}),
            items: &listing.items,
        }
    }
}
