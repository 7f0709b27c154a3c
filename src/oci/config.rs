//! Bundles: reads and checks a directory with a `config.json`.

use crate::model::{Context, Error, Result};
use crate::runtime::{self, Beyond, Blueprint};
use oci_spec::runtime::Spec;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A bundle that has been read and checked.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub folder: PathBuf,
    pub rootfs: PathBuf,
    pub blueprint: Blueprint,
    /// The text of the configuration, which is stored next to the container's state.
    pub text: String,
}

impl Bundle {
    /// Reads a bundle. Its configuration may be another file than `config.json`, as in crun.
    ///
    /// # Errors
    /// Fails when the configuration does not exist or is not valid; the error says where.
    pub fn read(folder: &Path, config: Option<&Path>) -> Result<Self> {
        let folder = std::fs::canonicalize(folder).context(|| format!("there is no bundle {}", folder.display()))?;
        let path = folder.join(config.unwrap_or(Path::new("config.json")));
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let wrong = || format!("{} is not valid", path.display());
        let mut value: Value = serde_json::from_str(&text).context(wrong)?;
        let renamed = value.get_mut("process").is_some_and(rename_flags);
        let text = if renamed { value.to_string() } else { text };
        // It is parsed from the text, so that errors have a line and a column.
        let mut spec: Spec = serde_json::from_str(&text).context(wrong)?;
        let version = spec.version();
        if !version.starts_with("1.") {
            return Err(Error::new(format!("{}: version {version:?} of the specification is not 1.x", path.display())));
        }
        let root = spec.root().as_ref().ok_or_else(|| Error::new(format!("{}: it has no `root`", path.display())))?;
        let rootfs = folder.join(root.path());
        let rootfs = std::fs::canonicalize(&rootfs).context(|| format!("there is no root file system {}", rootfs.display()))?;
        if !rootfs.is_dir() {
            return Err(Error::new(format!("the root file system {} is not a directory", rootfs.display())));
        }
        if let Some(root) = spec.root_mut() {
            root.set_path(rootfs.clone());
        }
        let beyond = Beyond { bundle: Some(folder.clone()), ..Beyond::default() };
        let bundle = Self { folder, rootfs, blueprint: Blueprint { oci: spec, beyond }, text };
        bundle.check()?;
        Ok(bundle)
    }

    fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::new(format!("{}: {text}", self.folder.join("config.json").display())));
        if let Some(process) = self.blueprint.oci.process() {
            if !process.cwd().is_absolute() {
                return wrong("`process.cwd` is not an absolute path");
            }
            if process.args().as_ref().is_none_or(Vec::is_empty) {
                return wrong("`process.args` is empty");
            }
        }
        for mount in self.blueprint.oci.mounts().iter().flatten() {
            if mount.destination().components().any(|part| part == std::path::Component::ParentDir) {
                return wrong(&format!("the path of the mount at {} contains `..`", mount.destination().display()));
            }
        }
        let mut seen = Vec::new();
        for namespace in self.blueprint.namespaces() {
            if seen.contains(&namespace.typ()) {
                return wrong("a namespace is named twice");
            }
            seen.push(namespace.typ());
        }
        let settings = self.blueprint.oci.linux().iter().flat_map(|linux| linux.sysctl().iter().flatten());
        if settings.into_iter().any(|(name, _)| !runtime::owns(&self.blueprint, name)) {
            return wrong("`linux.sysctl` contains a setting of the host");
        }
        Ok(())
    }
}

/// Renames a process's scheduler flags to the names that the crate expects, which differ from the specification's. Returns
/// whether any was renamed.
pub fn rename_flags(process: &mut Value) -> bool {
    let mut renamed = false;
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags")).and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = name.into();
        renamed = true;
    }
    renamed
}
