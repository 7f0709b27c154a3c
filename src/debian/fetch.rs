//! Fetches the packages of a lock into the store's downloads, each from whichever mirror still has it.

use super::mirror::Mirrors;
use crate::fetch::{AT_ONCE, Client, Origin, Progress, Wanted, runtime};
use crate::lock::LockedPackage;
use crate::model::{Context, Error, Result};
use crate::store::Store;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Makes sure that packages are in the store's downloads; returns the path of each.
///
/// # Errors
/// Fails when no mirror has some packages any more (the error names all of them), and at the first other failure.
pub fn fetch_packages(
    store: &Store,
    packages: &[&LockedPackage],
    mirrors: impl FnOnce() -> Result<Mirrors>,
    folder: &Path,
    progress: &Arc<Progress>,
) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = packages.iter().map(|package| store.download_path(&package.sha256)).collect();
    let missing: Vec<LockedPackage> = packages
        .iter()
        .zip(&paths)
        .filter(|(package, path)| !fs::metadata(path).is_ok_and(|metadata| metadata.len() == package.size))
        .map(|(package, _)| (*package).clone())
        .collect();
    if missing.is_empty() {
        return Ok(paths);
    }
    let mirrors = mirrors()?;
    progress.total.fetch_add(missing.iter().map(|package| package.size).sum(), Ordering::Relaxed);
    let client = Client::new()?;
    let (store, folder) = (store.clone(), folder.to_owned());
    let gone = runtime()?.block_on(async move {
        let gate = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let mut tasks = tokio::task::JoinSet::new();
        for package in missing {
            let (client, gate, progress, store) = (client.clone(), gate.clone(), progress.clone(), store.clone());
            let places = match &package.repository {
                Some(repository) => vec![Origin::parse(repository, &folder)],
                None => mirrors.pools(&package.path),
            };
            tasks.spawn(async move {
                let _turn = gate.acquire().await;
                let target = store.download_path(&package.sha256);
                if fs::metadata(&target).is_ok_and(|metadata| metadata.len() != package.size) {
                    let _ = fs::remove_file(&target);
                }
                let mut failure = None;
                for place in &places {
                    let wanted = Wanted { path: &package.path, digest: &package.sha256, size: package.size };
                    match client.fetch(place, &wanted, &target, &progress).await {
                        Ok(true) => return Ok(None),
                        Ok(false) => {}
                        Err(error) => failure = Some(error),
                    }
                }
                failure.map_or(Ok(Some(package.name)), Err)
            });
        }
        let mut gone = Vec::new();
        while let Some(done) = tasks.join_next().await {
            gone.extend(done.context(|| "a download was cut off".into())??);
        }
        Ok::<_, Error>(gone)
    })?;
    if gone.is_empty() {
        return Ok(paths);
    }
    let names = gone.join(", ");
    Err(Error::new(format!("no mirror has these locked packages any more: {names}"))
        .hint(format!("type `stead update {}` to move to what the mirror offers now", gone.join(" "))))
}
