//! What happens, told to whoever shows it: the command line, or a test.

use crate::build::Event;
use crate::plan::Plan;

/// Something that happened while a plan was carried out.
#[derive(Clone, Debug)]
pub enum Progress {
    Planned(Plan),
    Resolving,
    Resolved(usize),
    Build(Event),
    /// Bytes of packages fetched so far, of how many.
    Download {
        done: u64,
        total: u64,
    },
    /// A container, and what is being done with it.
    Container {
        name: String,
        what: &'static str,
    },
    Warning(String),
}

/// Where progress goes.
pub trait Reporter: Sync {
    fn report(&self, progress: Progress);
}
