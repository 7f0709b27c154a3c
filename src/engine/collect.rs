//! Frees what no project uses.

use crate::model::{Result, Size};
use crate::store::{Collected, Home, Store};
use crate::{build, monitor};

/// Frees what no project uses, and trims the caches to the size that they may have together; a dry run only reports.
///
/// # Errors
/// Fails when the store cannot be read or changed, and when a root cannot be read, because what it keeps is then unknown.
pub fn collect(home: &Home, caches: Size, dry: bool) -> Result<Collected> {
    let store = Store::at(&home.store);
    store.prepare()?;
    if !dry {
        monitor::sweep_builds(home)?;
        build::sweep();
    }
    store.collect(dry, caches)
}
