use super::super::Context;
use super::super::ui::{outlook_text, plan_text};
use crate::engine::{self, LoadedProject};
use crate::model::{Result, visible_line};
use crate::plan::{Outlook, Plan, Planned};
use crate::spec::{Choices, Diagnostic};
use serde::Serialize;
use serde_json::json;

/// Shows what `up` would do, and why. It writes nothing and does not use the network.
///
/// Example: stead plan --json > plan.json; stead apply plan.json
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Print the plan as JSON, which `stead apply` can carry out.
    #[arg(long)]
    json: bool,
    /// Also show what is cached, how long the rest took when it was last built, ports, and who depends on what changes or is
    /// down, in which order.
    #[arg(short, long)]
    verbose: bool,
    /// Exit with code 2 if there is something to do.
    #[arg(long)]
    check: bool,
}

/// A plan with what comes of it; `stead apply` reads only the plan.
#[derive(Serialize)]
struct Foreseen<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    outlook: &'a Option<Outlook>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let loaded = context.project_dry()?;
    context.warn(&loaded);
    let planned = if arguments.json || arguments.verbose {
        engine::foresee(&loaded).map(|(planned, outlook)| (planned, Some(outlook)))
    } else {
        engine::plan_only(&loaded).map(|planned| (planned, None))
    };
    let (planned, outlook) = match planned {
        Err(error) if arguments.json => {
            let found: Vec<_> = error.each().filter_map(Diagnostic::of_error).collect();
            context.ui.json(&json!({ "version": 1, "ok": false, "diagnostics": found }));
            return Err(error);
        }
        planned => planned?,
    };
    if arguments.json {
        context.ui.json(&Foreseen { plan: &planned.plan, outlook: &outlook });
    } else {
        tell_choices(&loaded, context);
        print(&planned.plan, context);
        if let Some(outlook) = &outlook {
            context.ui.result(outlook_text(outlook, &context.ui, context.ui.color_out, context.ui.columns_out()));
        }
        warn_of_vanished(&loaded, context)?;
    }
    Ok(if arguments.check && !planned.plan.tasks.is_empty() { 2 } else { 0 })
}

/// Shows a plan as text.
pub fn show_planned(planned: &Planned, context: &Context) -> Result<u8> {
    print(&planned.plan, context);
    Ok(0)
}

/// Shows a project's plan as text.
pub fn show(loaded: &LoadedProject, context: &Context) -> Result<u8> {
    context.warn(loaded);
    let planned = engine::plan_only(loaded)?;
    tell_choices(loaded, context);
    print(&planned.plan, context);
    warn_of_vanished(loaded, context)?;
    Ok(0)
}

fn warn_of_vanished(loaded: &LoadedProject, context: &Context) -> Result<()> {
    if let Some(warning) = engine::vanished(loaded)? {
        context.ui.warn(&warning);
    }
    Ok(())
}

/// Says what the project is made of besides its files: profiles, and values of parameters that are not their defaults.
fn tell_choices(loaded: &LoadedProject, context: &Context) {
    let Choices { profiles, .. } = &context.options.choices;
    if !profiles.is_empty() {
        context.ui.say(format!("profiles: {}", visible_line(&profiles.join(", "))));
    }
    let outside = loaded.project.parameters.iter().filter(|(_, source)| !source.is_of_project());
    let values: Vec<String> = outside.map(|(name, source)| format!("{name} from {source}")).collect();
    if !values.is_empty() {
        context.ui.say(format!("parameters: {}", visible_line(&values.join(", "))));
    }
}

fn print(plan: &Plan, context: &Context) {
    let text = plan_text(plan, &context.ui, context.ui.color_out, context.ui.columns_out());
    context.ui.result(if text.is_empty() { "nothing to do\n".into() } else { text });
}
