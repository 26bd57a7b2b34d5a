//! From the context to the text, by templates.
//!
//! The built-in templates are compiled in; a file of the same name in `CONFDIR/templates` wins over a built-in one.
//! Always holds: an undefined name in a template is an error, so a template written for another version fails instead
//! of leaving a statement out.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior};

use crate::context::Context;

/// The template that makes the file.
pub const MAIN: &str = "bird.cfg.j2";

const BUILT_IN: [(&str, &str); 3] = [
    (MAIN, include_str!("../templates/bird.cfg.j2")),
    ("family.cfg.j2", include_str!("../templates/family.cfg.j2")),
    ("peer.cfg.j2", include_str!("../templates/peer.cfg.j2")),
];

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("cannot read template {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("template {name}: {reason}")]
    Template { name: String, reason: String },
}

/// The templates, ready to use.
pub struct Renderer {
    environment: Environment<'static>,
}

impl Renderer {
    /// The built-in templates.
    pub fn built_in() -> Result<Self, RenderError> {
        Self::with_overrides(None)
    }

    /// The built-in templates, and in their place those of a directory that has them.
    pub fn with_overrides(directory: Option<&Path>) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_keep_trailing_newline(true);
        for (name, built_in) in BUILT_IN {
            let text = match directory.map(|d| d.join(name)) {
                Some(path) if path.exists() => {
                    tracing::info!(path = %path.display(), "template taken from a file");
                    std::fs::read_to_string(&path)
                        .map_err(|source| RenderError::Read { path: path.display().to_string(), source })?
                }
                _ => built_in.to_owned(),
            };
            environment.add_template_owned(name, text).map_err(|e| template_error(name, &e))?;
        }
        Ok(Self { environment })
    }

    /// The text of `bird.cfg`.
    pub fn render(&self, context: &Context) -> Result<String, RenderError> {
        self.environment
            .get_template(MAIN)
            .and_then(|t| t.render(context))
            .map_err(|e| template_error(MAIN, &e))
    }
}

fn template_error(name: &str, error: &minijinja::Error) -> RenderError {
    RenderError::Template { name: error.name().unwrap_or(name).to_owned(), reason: format!("{error:#}") }
}
