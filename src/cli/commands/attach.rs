use super::super::Context;
use super::super::relay::{DETACH_KEYS, Keys, relay};
use crate::model::{Context as _, Error, Result};
use crate::monitor::{self, Request};
use crate::sys;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;

/// Connects this terminal to a container's: shows its output, and sends it what you type.
///
/// If the container has no terminal (`tty #true`), only its output is shown, and signals to this process are
/// passed on to it. Ctrl-P Ctrl-Q detaches and leaves it running; when it ends, its exit status becomes this command's.
///
/// Example: stead attach web
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The keys that detach and leave the container running.
    #[arg(long, default_value = DETACH_KEYS, value_name = "KEYS")]
    detach_keys: String,
    /// Do not pass signals on to the container.
    #[arg(long)]
    no_signals: bool,
    /// The container or replica.
    name: String,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let keys = Keys::parse(&arguments.detach_keys)?;
    let instance = context.instance()?;
    let name = instance.find(&arguments.name)?;
    let folder = instance.container(&name);
    let attached = monitor::attach(&folder)?;
    let typed = attached.terminal.as_ref().filter(|_| std::io::stdin().is_terminal());
    if let Some(terminal) = typed {
        if !relay(terminal, &attached.stream, None, &keys)? {
            context.ui.say(format!("left {name} running"));
            return Ok(0);
        }
    } else {
        follow(&attached, &folder, !arguments.no_signals, context)?;
    }
    // The exit status is in the status file, which is written before the stream closes.
    let status = folder.status();
    if let Some(why) = status.as_ref().filter(|status| status.exit_code.is_none()).and_then(|status| status.error.clone()) {
        return Err(Error::caused(format!("nobody knows how {name} ended"), why));
    }
    Ok(u8::try_from(status.and_then(|status| status.exit_code).unwrap_or(0)).unwrap_or(1))
}

/// Shows the output until it ends, and passes signals on if wanted.
fn follow(attached: &monitor::Attached, folder: &monitor::Folder, pass: bool, context: &Context) -> Result<()> {
    let wanted = if pass { &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT][..] } else { &[] };
    let signals = sys::signal_descriptor(wanted).context(|| "cannot wait for signals".into())?;
    let mut stream = &attached.stream;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let waiting: [&dyn AsFd; 2] = [&attached.stream, &signals];
        let ready = sys::wait_readable(&waiting, None).context(|| "cannot wait".into())?;
        while let Ok(Some(signal)) = signals.read_signal() {
            let signal = i32::try_from(signal.ssi_signo).unwrap_or(0);
            let _ = monitor::call(folder, &Request::Signal { signal }, None);
        }
        if ready.first() == Some(&true) {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => context.ui.raw(&buffer[..length]),
            }
        }
    }
}
