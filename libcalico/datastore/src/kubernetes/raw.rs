//! Objects of the API server that Calico's model leaves out, by their path: other groups' kinds, as JSON.
//!
//! What always holds: an answer of "there is no such object" or "it exists already" is no error here but `false`, so
//! that a caller need not know the API server's words. What is left out: what the JSON means.

use serde_json::{Value, json};

use super::KubernetesDatastore;
use super::error::ApiError;
use crate::{DatastoreError, Result};

impl KubernetesDatastore {
    /// Creates an object in a collection. False where one of its name exists.
    pub async fn create_raw(&self, collection: &str, object: &Value) -> Result<bool> {
        done(collection, self.client.post(collection, object).await)
    }

    /// Replaces an object. False where it does not exist.
    pub async fn replace_raw(&self, path: &str, object: &Value) -> Result<bool> {
        done(path, self.client.put(path, object).await)
    }

    /// Deletes an object. False where it does not exist.
    pub async fn delete_raw(&self, path: &str) -> Result<bool> {
        done(path, self.client.delete(path, &json!({})).await)
    }
}

fn done(path: &str, answer: Result<String, ApiError>) -> Result<bool> {
    let other = |reason: String| Err(DatastoreError::Other { key: path.to_owned(), reason });
    match answer {
        Ok(_) => Ok(true),
        // Without the kind's definition the server does not know the path either.
        Err(ApiError::NotFound(message)) if message.contains("could not find the requested resource") => {
            other(format!("{message}; are Calico's CRDs installed?"))
        }
        Err(ApiError::NotFound(_) | ApiError::AlreadyExists) => Ok(false),
        Err(ApiError::Conflict(message)) => other(message),
        Err(ApiError::Gone) => other("the revision is no longer kept".to_owned()),
        Err(ApiError::Invalid(reasons)) => {
            other(reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        Err(ApiError::Datastore(e)) => Err(e),
    }
}
