//! Documents of a text, lists opened, with what errors need to name them.

use std::sync::Arc;

use serde_json::Value;

use super::{ReadError, TEXT_MAX};

/// An object that was not looked into yet.
pub(super) struct Document {
    pub(super) kind: String,
    pub(super) api_version: String,
    number: usize,
    /// Before paths of fields: `items[3].` in a list.
    prefix: String,
    value: Value,
}

/// What errors call an object.
pub(super) struct Whose {
    number: usize,
    object: String,
    prefix: String,
}

/// All documents that are not empty, numbered from 1.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, ReadError> {
    if text.len() > TEXT_MAX {
        return Err(ReadError::TooLong { bytes: text.len() });
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: DOCUMENTS_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_total_scalar_bytes: TEXT_MAX,
        },
    };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ReadError::Syntax { problem: error.to_string() })?;
    let mut documents = Vec::with_capacity(values.len());
    for (at, value) in values.into_iter().enumerate() {
        open(at + 1, value, &mut documents)?;
    }
    Ok(documents)
}

/// Adds what a document is, or what it lists; a list's items may leave their kind and version to it.
fn open(number: usize, mut value: Value, documents: &mut Vec<Document>) -> Result<(), ReadError> {
    let refused = |problem| ReadError::Shape { document: number, problem };
    if !value.is_object() {
        return Err(refused("expected an object with apiVersion and kind"));
    }
    let kind = text(&value, "kind").ok_or_else(|| refused("has no kind"))?;
    let api_version = text(&value, "apiVersion").ok_or_else(|| refused("has no apiVersion"))?;
    let Some(listed) = kind.strip_suffix("List") else {
        documents.push(Document { kind, api_version, number, prefix: String::new(), value });
        return Ok(());
    };
    let known = ["apiVersion", "kind", "metadata", "items"];
    if value.as_object().into_iter().flatten().any(|(key, _)| !known.contains(&&**key)) {
        return Err(refused("a list has apiVersion, kind, metadata and items, and nothing else"));
    }
    let Value::Array(items) = value["items"].take() else { return Err(refused("the list has no items")) };
    for (at, item) in items.into_iter().enumerate() {
        if !item.is_object() {
            return Err(refused("an item of the list is no object"));
        }
        let kind = text(&item, "kind").or_else(|| (!listed.is_empty()).then(|| listed.to_owned()));
        let kind = kind.ok_or_else(|| refused("an item of the list has no kind"))?;
        let api_version = text(&item, "apiVersion").unwrap_or_else(|| api_version.clone());
        documents.push(Document { kind, api_version, number, prefix: format!("items[{at}]."), value: item });
    }
    Ok(())
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

impl Document {
    pub(super) fn unknown(self) -> ReadError {
        ReadError::Unknown { document: self.number, kind: self.kind, api_version: self.api_version }
    }

    /// Itself as JSON, whole although a list may have named its kind, and without what the server noted of it.
    pub(super) fn source(&self) -> Arc<str> {
        let mut value = self.value.clone();
        value["kind"] = self.kind.as_str().into();
        value["apiVersion"] = self.api_version.as_str().into();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
        }
        value.to_string().into()
    }

    pub(super) fn into_parts(self) -> (Whose, Value) {
        let metadata = &self.value["metadata"];
        let names = ["namespace", "name"].map(|key| text(metadata, key));
        let name = names.into_iter().flatten().collect::<Vec<_>>().join("/");
        let object = format!("{} {name}", self.kind).trim_end().to_owned();
        (Whose { number: self.number, object, prefix: self.prefix }, self.value)
    }
}

impl Whose {
    pub(super) fn refused(self, error: &serde_path_to_error::Error<serde_json::Error>) -> ReadError {
        let path = format!("{}{}", self.prefix, error.path());
        ReadError::Field { document: self.number, object: self.object, path, problem: error.inner().to_string() }
    }
}

/// Deeper than any object of these kinds.
const DEPTH_MAX: usize = 32;
const DOCUMENTS_MAX: usize = 100_000;
/// What aliases expand to is counted too.
const NODES_MAX: usize = 4_000_000;
