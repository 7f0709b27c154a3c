//! Plain values that every room shares: digests, names, sizes, durations, addresses.
//!
//! Nothing here touches the machine. Each type parses its own text form and prints it back; the rooms
//! above decide what a value *means*.

pub mod bounds;
mod budget;
pub mod capability;
mod digest;
mod duration;
mod error;
mod git_repository;
pub mod kdl_text;
mod layer;
mod location;
mod misfit;
mod mode;
mod name;
mod pattern;
mod platform;
mod reference;
mod shown;
mod signal;
mod size;
mod spelling;
mod subnet;
mod text;
mod time;
mod visible;

pub use bounds::Amount;
pub use budget::{Budget, Floor};
pub use digest::{Digest, Hasher};
pub use duration::Duration;
pub use error::{Context, Error, ErrorKind, Result, in_words};
pub use git_repository::{GitRepository, without_login};
pub use layer::{EPOCH, LayerInfo, PATH, StoredBlob};
pub use location::Location;
pub use misfit::Misfit;
pub use mode::Mode;
pub use name::{Name, check_host_name, nearest};
pub use pattern::{Pattern, pattern_matches};
pub use platform::{ARCHITECTURE, LIBRARIES, PLATFORM};
pub use reference::{DOCKER_HUB, Reference};
pub use shown::shown;
pub use signal::{nearest_signal, signal_name, signal_number};
pub use size::Size;
pub use spelling::{spelled, unspelled};
pub use subnet::Subnet;
pub use text::{text_of, with_advice};
pub use time::{parse_date, parse_time, time_text};
pub use visible::{is_unseen, visible, visible_json, visible_line};
