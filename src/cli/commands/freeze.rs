use super::super::Context;
use super::super::ui::Shown;
use super::allow::Allow;
use crate::engine::{self, UpOptions};
use crate::model::Result;

/// Builds the images of containers that `watch` has synced files into, and takes them for theirs: nothing is restarted.
///
/// The images are built from the files as they are now. A container that is not what its image would be then is named, with the
/// files, and stays as it is. Afterwards `stead status` shows no drift, and `stead up` has nothing to do for it.
///
/// Example: stead freeze web --tag shop/web:tried
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas; all that have drifted if none is given.
    names: Vec<String>,
    /// Give the image this name, too, written as in Docker.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    #[command(flatten)]
    allow: Allow,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let options = UpOptions { command: "freeze".into(), allow: arguments.allow.kinds()?, ..UpOptions::default() };
    let loaded = context.settled(&options)?;
    let shown = Shown::new(&context.ui, false);
    let frozen = engine::freeze_as_image(&loaded, &arguments.names, arguments.tag.as_deref(), &options, &shown);
    shown.clear();
    let frozen = frozen?;
    if frozen.is_empty() {
        context.ui.say("nothing has drifted: what runs is what its images are");
    }
    for one in frozen {
        context.ui.result(format!("{} {} {}", one.replica, one.image, one.digest));
        let files = if one.files == 1 { "1 synced file is".to_owned() } else { format!("{} synced files are", one.files) };
        context.ui.say(format!("{}: {files} in its image now", one.replica));
    }
    Ok(0)
}
