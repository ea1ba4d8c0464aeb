//! An app as objects of Kubernetes, written from its app.yaml: the shape `wrap` of `config/kubernetes`, filled in.
//!
//! 1. `name`: what the objects are called.
//! 2. `size`: workers, processor and memory, from `instance_class` or `resources`; how many pods there may be.
//! 3. `variables`: `env_variables`, the secrets among them apart.
//! 4. `objects`: the objects themselves; `pod`: what runs.
//!
//! Reads no file and asks no cluster. The same app gives the same text.

mod name;
mod objects;
mod pod;
mod size;
mod variables;

#[cfg(test)]
mod tests;

use std::path::Path;

use thiserror::Error;

use crate::appyaml::App;
use crate::settings::{Options, Settings};

/// What is to be written.
#[derive(Debug)]
pub struct Request<'a> {
    /// What app.yaml says.
    pub app: &'a App,
    /// What the command line and compat-proxy.yaml say.
    pub settings: &'a Settings,
    /// The command line, which becomes the container's.
    pub options: &'a Options,
    /// The directory of the app, for its name.
    pub app_dir: &'a Path,
    /// Whether nothing is started behind the proxy.
    pub only_files: bool,
    /// The image of the app.
    pub image: &'a str,
    /// An image to copy compat-proxy from; none when `image` has it.
    pub proxy_image: Option<&'a str>,
    /// What to call the objects; none is by service or directory.
    pub name: Option<&'a str>,
}

/// What came of it.
#[derive(Debug)]
pub struct Exported {
    /// Documents for `kubectl apply -f -`.
    pub yaml: String,
    /// What the operator should know or do.
    pub remarks: Vec<String>,
}

/// Why there is nothing to write.
#[derive(Debug, Error)]
pub enum ExportError {
    /// `--name` is no name of a Service.
    #[error(
        "`--name {0}` cannot be a Service's name: write 1 to {most} small letters, digits and `-`, a letter first and no `-` last, and neither `default` nor `kubernetes`, which are there already",
        most = name::MOST
    )]
    Name(String),
    /// An image that no registry could have.
    #[error("`{option} {image}` is not an image: write `registry/name:tag`, without blanks")]
    Image {
        /// `--image` or `--proxy-image`.
        option: &'static str,
        /// As given.
        image: String,
    },
    /// The app runs elsewhere.
    #[error(
        "`upstream` is set: the app runs in a container of its own, and how it is started is not in app.yaml; start from config/kubernetes/attach instead"
    )]
    Attached,
    /// The objects cannot be written.
    #[error("cannot write the objects as YAML: {0}; please report this")]
    Yaml(String),
}

/// The objects that run this app.
///
/// # Errors
/// [`ExportError`] says what to change.
pub fn kubernetes(request: &Request<'_>) -> Result<Exported, ExportError> {
    if request.settings.is_attached() {
        return Err(ExportError::Attached);
    }
    for (option, image) in [("--image", Some(request.image)), ("--proxy-image", request.proxy_image)] {
        if let Some(image) = image.filter(|image| !is_image(image)) {
            return Err(ExportError::Image { option, image: image.to_owned() });
        }
    }
    let mut remarks = Vec::new();
    let name = match request.name {
        Some(given) if name::is_good(given) => given.to_owned(),
        Some(given) => return Err(ExportError::Name(given.to_owned())),
        None => name::of(&request.app.service, request.app_dir, &mut remarks),
    };
    let size = size::of(request, &mut remarks);
    let variables = variables::of(&request.app.env_variables, &name, &mut remarks);
    if request.options.config.is_some() {
        remarks.push(
            "the file of `--config` was read for its times only: put it into the image as compat-proxy.yaml beside app.yaml"
                .to_owned(),
        );
    }
    let objects = objects::all(&objects::Named { name: &name, request, size: &size, variables: &variables });
    let mut yaml = String::new();
    for object in &objects {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let text = serde_saphyr::to_string_with_options(object, options)
            .map_err(|error| ExportError::Yaml(error.to_string()))?;
        yaml.push_str("---\n");
        yaml.push_str(&text);
    }
    Ok(Exported { yaml, remarks })
}

/// No more than what would surely break: registries differ in what they take.
fn is_image(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
