//! What this machine must have before anything is touched: limits that it can apply, devices, mounts,
//! capabilities and filters that are there.

use super::observe::Observation;
use crate::model::{Context, Fault, Outcome, capability};
use crate::plan::Desired;
use crate::project::{MountSource, Places};
use crate::runtime::{self, Host, SecuritySpec, seccomp};
use crate::store::Home;
use crate::sys;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Checks one container; tells what will hold less than it seems to.
///
/// # Errors
/// What this machine lacks, with the place in the project file.
pub fn check(one: &Desired, places: &Places, folder: &Path, host: &Host) -> Outcome<Vec<String>> {
    let at = |node: &str| {
        let path = format!("container.{}", one.container);
        let place = places.of(&format!("{path}.{node}")).or_else(|| places.of(&path));
        place.map_or_else(String::new, |place| format!("{place}: "))
    };
    // What stands in for something that runs is whole before that is stopped.
    if one.image.is_none() {
        return Err(Fault::new(format!("{}container {}: its image {} is not built", at("image"), one.container, one.image_name))
            .hint("its files may have changed while it was built: run the command again"));
    }
    if let Some(runtime::Refusal { node, why }) = runtime::refusal(host, &one.spec.limits) {
        return Err(Fault::new(format!("{}container {}: {why}", at(&format!("limits.{node}")), one.container)));
    }
    let lacking = capability::mask(one.spec.security.add.iter().map(String::as_str)) & !sys::permitted_capabilities();
    if lacking != 0 {
        let names = capability::names(lacking).join(", ");
        let message = format!("{}container {}: this process lacks {names}", at("security.capability"), one.container);
        return Err(Fault::new(message).hint("it cannot give what it does not have: run stead with it, or take it out"));
    }
    for (device, _) in &one.spec.devices {
        let path = Path::new(device);
        let found = std::fs::metadata(path)
            .map_err(|error| Fault::caused(format!("{}container {}: no device {device}", at("device"), one.container), error))?;
        if !found.file_type().is_char_device() && !found.file_type().is_block_device() {
            return Err(Fault::new(format!("{}container {}: {device} is no device", at("device"), one.container)));
        }
    }
    for mount in &one.spec.mounts {
        let MountSource::Bind(path) = &mount.source else { continue };
        let source = folder.join(path);
        if !mount.create && !source.exists() {
            let message =
                format!("{}there is no {} to mount at {}", at(&format!("mount.{}", mount.to)), source.display(), mount.to);
            return Err(Fault::new(message).hint("make it, or write create=#true"));
        }
    }
    Ok(runtime::caveats(host, &one.spec.limits).into_iter().map(|text| format!("container {}: {text}", one.container)).collect())
}

/// What a container's processes may do, with its filter compiled.
///
/// # Errors
/// A profile that is not understood; those of keeping the compiled one.
pub fn security(one: &Desired, observation: &Observation, home: &Home) -> Outcome<SecuritySpec> {
    let wish = &one.spec.security;
    let capabilities = if wish.privileged { capability::ALL } else { capability::with(&wish.add, &wish.drop) };
    let unconfined = wish.seccomp.as_deref() == Some("unconfined") || wish.privileged && wish.seccomp.is_none();
    let filter = if unconfined {
        None
    } else {
        let text = wish.seccomp.as_ref().and_then(|file| observation.profiles.get(file)).map(String::as_str);
        Some(seccomp::keep(&home.run, text, capabilities).doing(|| "cannot make the system call filter".into())?)
    };
    Ok(SecuritySpec {
        capabilities,
        filter,
        no_new_privileges: wish.no_new_privileges,
        privileged: wish.privileged,
        read_only: wish.read_only,
        ulimits: one.spec.limits.ulimits.clone(),
        oom_score: one.spec.limits.oom_score,
    })
}
