//! `stead oci spec`: an example configuration to start from.

use super::SPECIFICATION;
use crate::model::{Context, Result};
use oci_spec::runtime::Spec;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Writes a bundle's configuration, if there is none.
pub fn run(bundle: &Path, rootless: bool) -> Result<u8> {
    let path = bundle.join("config.json");
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).context(failed)?;
    let value = if rootless { for_user(example()) } else { example() };
    let text = serde_json::to_string_pretty(&value).context(|| "cannot write the example".into())?;
    file.write_all(text.as_bytes()).context(failed)?;
    Ok(0)
}

/// The example configuration: a shell with a terminal on a read-only root.
fn example() -> serde_json::Value {
    let mut value = serde_json::to_value(Spec::default()).unwrap_or_default();
    value["ociVersion"] = json!(SPECIFICATION);
    value["hostname"] = json!("stead");
    value["process"]["terminal"] = json!(true);
    value["process"]["args"] = json!(["sh"]);
    value["process"]["noNewPrivileges"] = json!(true);
    value["root"] = json!({ "path": "rootfs", "readonly": true });
    // As in runc: with cgroup v1, there is no cgroup namespace by default.
    if let (false, Some(namespaces)) = (crate::runtime::host().v1.is_empty(), value["linux"]["namespaces"].as_array_mut()) {
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    }
    value["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    value
}

/// The same for a user who is not root: in a user namespace where that user is root, with the host's network, without limits.
fn for_user(mut value: serde_json::Value) -> serde_json::Value {
    let linux = &mut value["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": nix::unistd::geteuid().as_raw(), "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": nix::unistd::getegid().as_raw(), "size": 1 }]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in value["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "sysfs" {
            // Mounting a new sysfs is possible only with a network namespace of its own.
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
            *mount = json!({ "destination": mount["destination"], "type": "none", "source": "/sys", "options": options });
        }
        if let Some(options) = mount["options"].as_array_mut() {
            // The user namespace does not have these users and groups.
            options.retain(|option| !option.as_str().is_some_and(|text| text.starts_with("gid=") || text.starts_with("uid=")));
        }
    }
    value
}
