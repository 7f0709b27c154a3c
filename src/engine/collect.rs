//! Frees what no project uses.

use crate::model::{Result, Size};
use crate::store::{Collected, Home, Store};
use crate::{build, monitor};

/// Frees what no project uses, and what of caches is more than they may hold together; a dry run only tells.
///
/// # Errors
/// Those of the store; roots that cannot be read, since what they keep is not known then.
pub fn collect(home: &Home, caches: Size, dry: bool) -> Result<Collected> {
    let store = Store::at(&home.store);
    store.prepare()?;
    if !dry {
        monitor::sweep_builds(home)?;
        build::sweep();
    }
    store.collect(dry, caches)
}
