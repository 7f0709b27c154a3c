//! `debian` steps that run the packages' own scripts: the image's own dpkg runs them, in our sandbox, without network.
//!
//! As in every Debian installer, the packages that dpkg itself needs are unpacked first. Then dpkg installs these
//! properly, and after them the others in the order of their dependencies.

use super::run::{self, Around};
use super::{Builder, describe};
use crate::debian;
use crate::lock::LockedPackage;
use crate::model::{Context, Name, Result};
use crate::plan::{Pending, StepOutput};
use crate::project::{Debian, Propagation, Run};
use crate::runtime::{MountKind, MountSpec};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where dpkg finds the packages, and the script that calls it.
const DEBS: &str = "/run/stead-packages";

/// Services are not started while an image is made (invoke-rc.d(8)).
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// dpkg's arguments: it must not ask questions, and need not sync files, since the layer is synced as a whole.
const DPKG: &str = "dpkg --force-unsafe-io --force-confdef --force-confold";

impl Builder<'_> {
    /// Installs the packages of a step with their scripts.
    ///
    /// # Errors
    /// Fails when a package cannot be fetched, or when a script fails; then the error has its last lines.
    pub(super) fn configure(&self, name: &Name, debian: &Debian, pending: &Pending) -> Result<StepOutput> {
        let (packages, files) = self.packages(name, pending.index, debian)?;
        let needs: Vec<debian::Needs> = files.iter().map(|file| debian::needs(file)).collect::<Result<_>>()?;
        let order = debian::order(&needs);
        let (staging, tree) = self.staging()?;
        let layers = self.paths(&pending.layers);
        let bare = super::View::new(layers.clone()).entry(Path::new("/usr/bin/dpkg")).is_none();
        if bare {
            let chosen: Vec<&LockedPackage> = order.essential.iter().map(|index| packages[*index]).collect();
            let of: Vec<PathBuf> = order.essential.iter().map(|index| files[*index].clone()).collect();
            debian::unpack_for_dpkg(&chosen, &of, &tree, self.lock.epoch)?;
        }
        let debs = staging.join("debs");
        fs::create_dir(&debs).context(|| "cannot make a staging directory".into())?;
        for (index, (package, file)) in packages.iter().zip(&files).enumerate() {
            let target = debs.join(deb(index, package));
            fs::hard_link(file, &target)
                .or_else(|_| fs::copy(file, &target).map(drop))
                .context(|| "cannot give dpkg its packages".into())?;
        }
        let script = |name: &str, text: &str| -> Result<PathBuf> {
            let place = staging.join(name);
            fs::write(&place, text)
                .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
                .context(|| "cannot write a script".into())?;
            Ok(place)
        };
        let bind = |source: PathBuf, to: &str| -> Result<MountSpec> {
            let kind = MountKind::bind(&source, None, Propagation::Private).context(|| format!("cannot mount {to}"))?;
            Ok(MountSpec { kind, to: to.into(), read_only: true })
        };
        fs::write(debs.join("install"), install(&packages, &order, bare)).context(|| "cannot write a script".into())?;
        let mut around = Around::default();
        around.mounts = vec![bind(debs, DEBS)?, bind(script("policy-rc.d", POLICY)?, "/usr/sbin/policy-rc.d")?];
        let env = [
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
            ("DEBCONF_NOWARNINGS", "yes"),
            ("LC_ALL", "C.UTF-8"),
            ("LANG", "C.UTF-8"),
        ];
        let command = Run {
            words: vec!["/bin/sh".into(), "-e".into(), format!("{DEBS}/install")],
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            // The user is a number, because names exist only once the first packages are installed.
            user: Some("0:0".into()),
            ..Run::default()
        };
        // The image's environment and working directory are for its programs, not for dpkg.
        let epoch = BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), self.lock.epoch.to_string())]);
        let plain = Pending { config: crate::plan::Config::default(), args: epoch, ..pending.clone() };
        let report = |line: String| (self.report)(super::Event::Output { image: name.clone(), line });
        let step = crate::project::Step::Debian(debian.clone());
        let ran = run::run(&command, &plain, around, None, &layers, (self.store, &staging, &tree), &report);
        let devices = ran.context(|| format!("the packages of `{}` cannot be configured", describe(&step)))?;
        self.tell_devices(name, &step, devices);
        debian::scrub(&tree, self.lock.epoch)?;
        Ok(StepOutput { layer: self.adopt(&tree)?, skipped: Vec::new() })
    }
}

fn deb(index: usize, package: &LockedPackage) -> String {
    format!("{index:05}_{}.deb", package.name)
}

/// The commands that install everything.
fn install(packages: &[&LockedPackage], order: &debian::Order, bare: bool) -> String {
    let names = |batch: &[usize]| batch.iter().map(|index| deb(*index, packages[*index])).collect::<Vec<_>>().join(" ");
    let mut text = format!("cd {DEBS}\n");
    if bare {
        text.push_str(
            "mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates && touch /var/lib/dpkg/status /var/lib/dpkg/available\n",
        );
        // These packages depend on each other in cycles, so dpkg must be told to ignore dependencies.
        text.push_str(&format!("{DPKG} --force-depends --install {}\n", names(&order.essential)));
    } else if !order.essential.is_empty() {
        text.push_str(&format!("{DPKG} --skip-same-version --install {}\n", names(&order.essential)));
    }
    for batch in &order.batches {
        text.push_str(&format!("{DPKG} --skip-same-version --install {}\n", names(batch)));
    }
    text.push_str("dpkg --configure --pending\n");
    text
}
