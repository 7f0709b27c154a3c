//! The settings for registries in Docker's `daemon.json`.

use super::{DOCKER_HUB, Mirror, Rule, Settings, damaged, place};
use crate::model::{Error, Result};
use serde::Deserialize;
use std::path::Path;

impl Settings {
    pub(super) fn read_docker(&mut self, path: &Path, text: &str) -> Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let file: Docker = serde_json::from_str(text).map_err(|error| damaged(path, error.line(), &error.to_string()))?;
        let mut mirrors = Vec::new();
        for url in file.registry_mirrors.iter().flatten() {
            let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
            let location = place(rest).map_err(|why| Error::new(format!("{}: {why}", path.display())))?;
            let insecure = (scheme == "http").then_some(true);
            mirrors.push(Mirror { location, insecure, authorities: Vec::new(), only: None });
        }
        self.docker.push(Rule { prefix: DOCKER_HUB.into(), mirrors, file: path.to_owned(), ..Rule::default() });
        for entry in file.insecure_registries.iter().flatten() {
            let bare = entry.split_once("://").map_or(entry.as_str(), |(_, rest)| rest);
            self.docker_insecure.push(bare.to_owned());
        }
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Docker {
    registry_mirrors: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
}
