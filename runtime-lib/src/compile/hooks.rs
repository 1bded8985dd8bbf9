//! `hooks`: two kinds run in the init, two in the creator meanwhile, two at later stages.

use oci_spec::runtime::{Hook as SpecHook, Hooks};
use orlop_init::plan::{Hook, Message, Op};
use serde_json::json;

use super::{Columns, Config, OCI_VERSION, kernel_list, kernel_path, net_devices};
use crate::error::{Error, Result};
use crate::plan::{Bytes, HookPlan, HostOp};

const MS_PER_S: u64 = 1000;

/// The hooks of a stage, checked.
fn stage<'a>(
    config: &Config<'a>,
    name: &str,
    list: impl Fn(&'a Hooks) -> &'a Option<Vec<SpecHook>>,
) -> Result<Vec<HookPlan>> {
    let hooks = config.spec.hooks().as_ref().and_then(|hooks| list(hooks).as_deref());
    let hooks = hooks.unwrap_or_default().iter().enumerate();
    hooks.map(|(index, hook)| compile(name, index, hook)).collect()
}

fn field(hook: &HookPlan) -> String {
    format!("hooks.{}[{}]", hook.stage, hook.index)
}

fn compile(stage: &str, index: usize, hook: &SpecHook) -> Result<HookPlan> {
    let at = |leaf: &str| format!("hooks.{stage}[{index}].{leaf}");
    if !hook.path().is_absolute() {
        let text = format!("{:?} is not absolute", hook.path().display().to_string());
        return Err(Error::config(at("path"), text));
    }
    kernel_path(hook.path(), &at("path"))?;
    let args = hook.args().clone().unwrap_or_default();
    kernel_list(&args, &at("args"))?;
    if let Some(env) = hook.env() {
        for (place, entry) in env.iter().enumerate() {
            super::process::check_variable(entry, &format!("{}[{place}]", at("env")))?;
        }
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            // The init counts milliseconds.
            Ok(seconds) if seconds > 0 && seconds <= u64::MAX / MS_PER_S => Some(seconds),
            _ => {
                let text = format!("{seconds} is not a number of seconds greater than zero");
                return Err(Error::config(at("timeout"), text));
            }
        },
    };
    Ok(HookPlan {
        stage: stage.to_owned(),
        index,
        path: hook.path().clone(),
        args,
        env: hook.env().clone(),
        timeout,
    })
}

/// The hooks that the creator runs while the init waits.
fn of_runtime(config: &Config<'_>) -> Result<Vec<HookPlan>> {
    // Deprecated by the specification, and used: Docker's network and the NVIDIA toolkit.
    #[allow(deprecated)]
    let mut all = stage(config, "prestart", Hooks::prestart)?;
    all.extend(stage(config, "createRuntime", Hooks::create_runtime)?);
    Ok(all)
}

/// What the init waits for, if anything.
fn meeting(config: &Config<'_>, hooks: &[HookPlan]) -> Option<String> {
    let devices = net_devices::any(config).then(|| "linux.netDevices".to_owned());
    devices.or_else(|| hooks.first().map(field))
}

/// The init's side of [`runtime`].
pub(super) fn wait_for_runtime_hooks(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(field) = meeting(config, &of_runtime(config)?) {
        out.child(field.clone(), Op::Notify(Message::Mounted));
        out.child(field, Op::Await(Message::HooksDone));
    }
    Ok(())
}

/// The network devices, then prestart and createRuntime hooks, once the namespaces and mounts are in
/// place.
pub(super) fn runtime(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let hooks = of_runtime(config)?;
    let Some(first) = meeting(config, &hooks) else { return Ok(()) };
    out.host(first.clone(), HostOp::Await(Message::Mounted));
    net_devices::moves(config, out)?;
    for hook in hooks {
        out.host(field(&hook), HostOp::RunHook(hook));
    }
    out.host(first, HostOp::Notify(Message::HooksDone));
    Ok(())
}

pub(super) fn create_container(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    for hook in stage(config, "createContainer", Hooks::create_container)? {
        in_init(config, &hook, "creating", out)?;
    }
    Ok(())
}

pub(super) fn start_container(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    for hook in stage(config, "startContainer", Hooks::start_container)? {
        in_init(config, &hook, "created", out)?;
    }
    Ok(())
}

/// Whether there are hooks between `start` and the program.
pub(super) fn run_at_start(config: &Config<'_>) -> bool {
    let hooks = config.spec.hooks().as_ref();
    hooks.and_then(|hooks| hooks.start_container().as_deref()).is_some_and(|list| !list.is_empty())
}

pub(super) fn poststart(config: &Config<'_>) -> Result<Vec<HookPlan>> {
    stage(config, "poststart", Hooks::poststart)
}

pub(super) fn poststop(config: &Config<'_>) -> Result<Vec<HookPlan>> {
    stage(config, "poststop", Hooks::poststop)
}

fn in_init(config: &Config<'_>, hook: &HookPlan, status: &str, out: &mut Columns) -> Result<()> {
    let field = field(hook);
    let in_root = status == "creating";
    let args = if hook.args.is_empty() {
        kernel_path(&hook.path, &field)?
    } else {
        Bytes::list(&hook.args, &field)?
    };
    // runc's habit, which hooks rely on: a startContainer hook without `env` has the program's.
    let (env, home) = match &hook.env {
        Some(env) => (Bytes::list(env, &field)?, false),
        None if in_root => (Bytes::default(), false),
        None => (Bytes::list(config.env.entries(), &field)?, true),
    };
    let (head, tail) = state(config, status);
    out.child(
        field.clone(),
        Op::RunHook(Hook {
            path: kernel_path(&hook.path, &field)?,
            args,
            env,
            home,
            state_head: Bytes::blob(head),
            state_tail: Bytes::blob(tail),
            timeout_ms: hook.timeout.unwrap_or(0) * MS_PER_S,
            in_root,
        }),
    );
    Ok(())
}

/// The container's state around the pid, which only the init knows.
fn state(config: &Config<'_>, status: &str) -> (String, String) {
    let text = |value: &str| json!(value).to_string();
    let head = format!(
        "{{\"ociVersion\":{},\"id\":{},\"status\":{},\"pid\":",
        text(OCI_VERSION),
        text(&config.request.id),
        text(status)
    );
    let mut tail = format!(",\"bundle\":{}", text(&config.request.bundle.to_string_lossy()));
    let annotations = super::annotations(config.spec);
    if !annotations.is_empty() {
        tail.push_str(",\"annotations\":");
        tail.push_str(&json!(annotations).to_string());
    }
    tail.push('}');
    (head, tail)
}
