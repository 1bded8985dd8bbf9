//! Plans in words: a line for every operation, with the config.json field that it comes from.
//!
//! The text is stable: equal plans print equally, and a changed plan prints changed (only long
//! binary programs are shown by their digest).

use std::fmt;

use orlop_init::plan::{
    Attributes, Bind, Device, Filesystem, Hook, IdMap, Message, Op, Special, Terminal,
};
use serde_json::{Value, json};

use crate::cgroup::IfMissing;
use crate::cgroup::systemd::Bus;
use crate::compile::{
    Rdt, attr, capability_names, memory_policy_text, namespace_name, number_list_text,
    propagation_name, rlimit_name, scheduling_text,
};
use crate::error::Field;
use crate::plan::{Bytes, CgroupNeed, HookPlan, HostOp, Plan, Slot, Step, UnitPlan};

/// One line: an operation, what it works on and how, and the field it comes from.
struct Row {
    operation: &'static str,
    object: String,
    field: String,
}

fn row(operation: &'static str, object: impl Into<String>, field: &Field) -> Row {
    Row { operation, object: object.into(), field: field.to_string() }
}

impl Plan {
    /// The plan as text: columns for who, operation, object and config.json field.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (who, rows) in self.columns() {
            for row in rows {
                let Row { operation, object, field } = row;
                let line = format!("{who:<8}{operation:<17}{object:<60}  {field}");
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// The plan as JSON: `id`, and the lists `plan`, `child`, `host`, `later` and `warnings` of
    /// `{operation, object, field}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut all = serde_json::Map::new();
        all.insert("id".into(), json!(self.id));
        for (who, rows) in self.columns() {
            let key = match who {
                "init" => "child",
                "warning" => "warnings",
                other => other,
            };
            let row = |Row { operation, object, field }: Row| json!({"operation": operation, "object": object, "field": field});
            all.insert(key.into(), rows.into_iter().map(row).collect());
        }
        Value::Object(all)
    }

    fn columns(&self) -> [(&'static str, Vec<Row>); 5] {
        let later = self.poststart.iter().chain(&self.poststop);
        let later = later.map(|hook| hook_row(hook, &hook_field(hook)));
        let affinity = self.later_affinity.iter();
        let affinity =
            affinity.map(|text| row("exec-affinity", text, &"process.execCPUAffinity".into()));
        let later = affinity.chain(later);
        let warnings = self.warnings.iter();
        [
            ("plan", self.frame()),
            ("init", self.child.iter().map(child_row).collect()),
            ("host", self.host.iter().map(host_row).collect()),
            ("later", later.collect()),
            ("warning", warnings.map(|(field, text)| row("warn", text, field)).collect()),
        ]
    }

    /// What frames the two columns.
    fn frame(&self) -> Vec<Row> {
        let none = Field::from("");
        let mut rows = vec![
            row("container", &self.id, &none),
            row("bundle", word(self.bundle.to_string_lossy().as_bytes()), &none),
            row("root", word(self.rootfs.to_string_lossy().as_bytes()), &"root.path".into()),
            row("cgroup", cgroup_text(self), &self.cgroup.field),
            row("clone", clone_text(self), &"linux.namespaces".into()),
        ];
        rows.extend(self.unit.iter().flat_map(unit_rows));
        rows.extend(
            self.joins.iter().map(|Step { op, field }| row("born-in", slot_text(op), field)),
        );
        for (number, Step { op, field }) in self.slots.iter().enumerate() {
            rows.push(row("slot", format!("{number}: {}", slot_text(op)), field));
        }
        if self.preserve_fds > 0 {
            rows.push(row(
                "preserve",
                format!("{} descriptors from 3 on", self.preserve_fds),
                &none,
            ));
        }
        for (key, value) in &self.annotations {
            let text = format!("{}={}", word(key.as_bytes()), word(value.as_bytes()));
            rows.push(row("annotation", text, &"annotations".into()));
        }
        rows
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// The cgroup, and whether there may be none.
fn cgroup_text(plan: &Plan) -> String {
    let rest = if plan.cgroup_need == CgroupNeed::IfPermitted { ", if it may be made" } else { "" };
    format!("{}{rest}", word(plan.cgroup.op.as_bytes()))
}

/// The unit that systemd makes, and what it is told of it.
fn unit_rows(Step { op: unit, field }: &Step<UnitPlan>) -> Vec<Row> {
    let whose = match &unit.bus {
        Bus::System => "the system's systemd".to_owned(),
        Bus::User(address) => format!("the user's systemd at {}", word(address.as_bytes())),
    };
    let name = word(unit.name.as_bytes());
    let mut rows = vec![row("unit", format!("{name} in {} by {whose}", unit.slice), field)];
    for Step { op: property, field } in &unit.properties {
        let rest = match property.since {
            0 => String::new(),
            version => format!(" (systemd {version} and later)"),
        };
        let text = format!("{} = {}{rest}", property.name, property.value);
        rows.push(row("property", text, field));
    }
    rows
}

/// The new namespaces, and whether the init's death ends the container.
fn clone_text(plan: &Plan) -> String {
    let namespaces = flag_names(plan.clone_flags);
    let rest = if plan.own_pid_namespace { "" } else { " (the pid namespace is shared)" };
    format!("new {namespaces}{rest}")
}

fn flag_names(flags: u32) -> String {
    use oci_spec::runtime::LinuxNamespaceType::{
        Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts,
    };
    let all = [Mount, Pid, Uts, Ipc, Network, Cgroup, User, Time];
    let names = all.into_iter().filter(|kind| flags & *kind as u32 != 0).map(namespace_name);
    names.collect::<Vec<_>>().join(",")
}

fn slot_text(slot: &Slot) -> String {
    match slot {
        Slot::Namespace { path, flag, foreign } => {
            let rest = if *foreign { ", which must not be the runtime's" } else { "" };
            format!("{} namespace {}{rest}", flag_names(*flag), path.display())
        }
        Slot::UserNamespace(maps) => {
            let list = |map: &crate::compile::IdMap| map.to_string().trim_end().replace('\n', ", ");
            format!("ids: users {}; groups {}", list(&maps.users), list(&maps.groups))
        }
        Slot::ConsoleSocket => "console socket".to_owned(),
        Slot::Container => "the container's init".to_owned(),
        Slot::ContainerRoot => "the root of the container's init".to_owned(),
    }
}

/// A word as it is, or quoted where it has anything but plain characters.
fn word(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let text = String::from_utf8_lossy(bytes);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        text.into_owned()
    } else {
        format!("{text:?}")
    }
}

/// A string that carries its NUL, or does not.
fn show(bytes: &Bytes) -> String {
    word(bytes.0.strip_suffix(b"\0").unwrap_or(&bytes.0))
}

/// A list of strings.
fn list(bytes: &Bytes) -> Vec<String> {
    match bytes.0.strip_suffix(b"\0") {
        Some(all) => all.split(|byte| *byte == 0).map(word).collect(),
        None => Vec::new(),
    }
}

/// FNV-1a: no secret is kept by it, it only tells programs apart.
fn digest<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

/// The names of attributes as mount(8) has them.
fn attributes(change: Attributes, prefix: &str, words: &mut Vec<String>) {
    const NAMES: [(u64, &str, &str); 6] = [
        (attr::RDONLY, "ro", "rw"),
        (attr::NOSUID, "nosuid", "suid"),
        (attr::NODEV, "nodev", "dev"),
        (attr::NOEXEC, "noexec", "exec"),
        (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
        (attr::NODIRATIME, "nodiratime", "diratime"),
    ];
    for (bit, set, clear) in NAMES {
        if change.set & bit != 0 {
            words.push(format!("{prefix}{set}"));
        } else if change.clear & bit != 0 {
            // In a user namespace the others yield to what is locked.
            let asked = if change.yielding & bit == 0 && prefix.is_empty() { "!" } else { "" };
            words.push(format!("{prefix}{clear}{asked}"));
        }
    }
    let kind = change.set & attr::ATIME;
    if kind & attr::NOATIME != 0 {
        words.push(format!("{prefix}noatime"));
    } else if kind & attr::STRICTATIME != 0 {
        words.push(format!("{prefix}strictatime"));
    } else if change.clear & attr::ATIME != 0 {
        words.push(format!("{prefix}relatime"));
    }
}

fn joined(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(",")) }
}

fn propagations(bytes: &Bytes) -> impl Iterator<Item = String> {
    bytes.0.iter().map(|change| propagation_name(*change).to_owned())
}

fn id_map(map: Option<IdMap>) -> Option<String> {
    map.map(|map| {
        let name = if map.tree { "ridmap" } else { "idmap" };
        let of = map.slot.map_or("container".to_owned(), |slot| slot.to_string());
        let by = if map.by_creator { " by the creator" } else { "" };
        format!("{name}={of}{by}")
    })
}

fn bind(bind: &Bind<Bytes>) -> String {
    let mut words = vec![if bind.recursive { "rbind" } else { "bind" }.to_owned()];
    attributes(bind.attributes, "", &mut words);
    attributes(bind.tree_attributes, "r", &mut words);
    words.extend(id_map(bind.map));
    words.extend(propagations(&bind.propagation));
    format!("{} on {}{}", show(&bind.source), show(&bind.target), joined(&words))
}

fn filesystem(new: &Filesystem<Bytes>) -> String {
    const SPECIAL: [(Special, &str); 7] = [
        (Special::COPY_UP, "copies the directory's content"),
        (Special::SEAL, "read-only later"),
        (Special::MODE_OF_TARGET, "mode of the directory"),
        (Special::PROCFS, "gives the procfs handle"),
        (Special::PLAIN_TARGET, "no links"),
        (Special::JOINED_PIDS, "of the joined pid namespace"),
        (Special::LABELLED, "with linux.mountLabel"),
    ];
    let mut words = Vec::new();
    let set = Attributes { set: new.attributes, ..Attributes::default() };
    attributes(set, "", &mut words);
    words.extend(list(&new.options));
    words.extend(id_map(new.map));
    words.extend(propagations(&new.propagation));
    let special = SPECIAL.iter().filter(|(bit, _)| new.special.has(*bit));
    let special: String = special.map(|(_, text)| format!("; {text}")).collect();
    let source = if new.source.0.is_empty() { "none".to_owned() } else { show(&new.source) };
    let (fstype, target) = (show(&new.fstype), show(&new.target));
    format!("{fstype} {source} on {target}{}{special}", joined(&words))
}

fn device(device: &Device<Bytes>) -> String {
    let Device { path, mode, major, minor, uid, gid } = device;
    let kind = match mode & 0o170_000 {
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => 'p',
    };
    format!("{} {kind} {major}:{minor} mode {:04o} owner {uid}:{gid}", show(path), mode & 0o7777)
}

fn hook(hook: &Hook<Bytes>) -> String {
    let place = if hook.in_root { " in the root directory" } else { "" };
    let time = if hook.timeout_ms > 0 {
        format!(" at most {} ms", hook.timeout_ms)
    } else {
        String::new()
    };
    let home = if hook.home { " and the home" } else { "" };
    format!(
        "{}{place}{time}: {} env [{}]{home} state {}PID{}",
        show(&hook.path),
        list(&hook.args).join(" "),
        list(&hook.env).join(" "),
        String::from_utf8_lossy(&hook.state_head.0),
        String::from_utf8_lossy(&hook.state_tail.0)
    )
}

fn terminal(terminal: &Terminal) -> String {
    let Terminal { socket_slot, rows, columns, plain, uid, console, controlling } = terminal;
    let console = if *console { ", on /dev/console too" } else { "" };
    let plain = if *plain { ", without carriage returns" } else { "" };
    let session = if *controlling { "" } else { ", controlling once reborn" };
    format!("{columns}x{rows} owner {uid}, master to slot {socket_slot}{console}{plain}{session}")
}

fn gids(bytes: &Bytes) -> String {
    let (each, _) = bytes.0.as_chunks::<4>();
    let gids: Vec<String> = each.iter().map(|gid| u32::from_le_bytes(*gid).to_string()).collect();
    if gids.is_empty() { "none".to_owned() } else { gids.join(" ") }
}

/// Ranges of ids: `inside outside count`.
fn ranges(bytes: &Bytes) -> String {
    let (words, _) = bytes.0.as_chunks::<4>();
    let words: Vec<String> =
        words.iter().map(|word| u32::from_le_bytes(*word).to_string()).collect();
    words.chunks(3).map(|range| range.join(" ")).collect::<Vec<_>>().join(", ")
}

/// `IOPRIO_CLASS_*` with its level.
fn io_priority(class: u8, level: u8) -> String {
    let class = match class {
        1 => "realtime",
        2 => "best effort",
        _ => "idle",
    };
    format!("{class}, level {level}")
}

/// Processors.
fn affinity(cpus: &Bytes, tolerant: bool) -> String {
    if cpus.0.is_empty() {
        return "all processors".to_owned();
    }
    let rest = if tolerant { ", as far as the cgroup allows" } else { "" };
    format!("processors {}{rest}", number_list_text(&cpus.0))
}

fn set(mask: u64) -> String {
    let names: Vec<&str> = capability_names(mask).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn message(message: Message) -> &'static str {
    match message {
        Message::Mounted => "mounted",
        Message::HooksDone => "hooks-done",
        Message::ListenerTaken => "listener-taken",
        Message::Adopted => "adopted",
        Message::Admitted => "admitted",
        Message::InUnit => "in-unit",
        Message::Ready => "ready",
        Message::Start => "start",
    }
}

/// One line of the init's column.
fn child_row(Step { op, field }: &Step<Op<Bytes>>) -> Row {
    let (operation, object) = match op {
        Op::JoinNamespace { slot, flag } => {
            ("join-namespace", format!("{} from slot {slot}", flag_names(*flag)))
        }
        Op::Unshare { flags } => ("unshare", flag_names(*flags)),
        Op::CheckIdMaps { uids, gids } => {
            ("check-id-maps", format!("uid {}; gid {}", ranges(uids), ranges(gids)))
        }
        Op::NamespaceUser { uid, gid } => {
            ("namespace-user", format!("0:0, or where that is not mapped {uid}:{gid}"))
        }
        Op::OpenProcfs => ("open-procfs", "/proc of the host".to_owned()),
        Op::Attribute { name, value } => ("attribute", format!("{} = {}", show(name), show(value))),
        Op::TimeNamespace { offsets } => {
            let lines = String::from_utf8_lossy(&offsets.0).trim_end().replace('\n', ", ");
            ("time-namespace", if lines.is_empty() { "no offsets".to_owned() } else { lines })
        }
        Op::Affinity { cpus, tolerant } => ("affinity", affinity(cpus, *tolerant)),
        Op::SessionKeyring { name, permissions: 0 } => ("session-keyring", show(name)),
        Op::SessionKeyring { name, permissions } => {
            ("session-keyring", format!("{} permissions {permissions:08x}", show(name)))
        }
        Op::LoopbackUp => ("loopback-up", "lo".to_owned()),
        Op::HostPropagation { change } => {
            ("host-propagation", propagation_name(*change).to_owned())
        }
        Op::OpenRoot { path, isolate } => {
            let rest = if *isolate { ", its parent made private" } else { "" };
            ("open-root", format!("{}{rest}", show(path)))
        }
        Op::OpenRootInPlace { path } => ("open-root-in-place", show(path)),
        Op::UseRoot => ("use-root", "/".to_owned()),
        Op::Chroot { slot } => ("chroot", format!("slot {slot}")),
        Op::Bind(new) => ("bind", bind(new)),
        Op::Filesystem(new) => ("filesystem", filesystem(new)),
        Op::Relabel { target, label } => ("relabel", format!("{} {}", show(target), show(label))),
        Op::Remount { target, attributes: own, tree_attributes } => {
            let mut words = Vec::new();
            attributes(*own, "", &mut words);
            attributes(*tree_attributes, "r", &mut words);
            ("remount", format!("{}{}", show(target), joined(&words)))
        }
        Op::Sysctl { path, value } => ("sysctl", format!("{} = {}", show(path), show(value))),
        Op::Device(new) => ("device", device(new)),
        Op::Symlink { target, path, replace } => {
            let rest = if *replace { ", replacing" } else { "" };
            ("symlink", format!("{} -> {}{rest}", show(path), show(target)))
        }
        Op::RunHook(run) => ("run-hook", hook(run)),
        Op::MaskPath { path } => ("mask", show(path)),
        Op::ReadonlyPath { path } => ("readonly", show(path)),
        Op::EnterRoot => ("enter-root", String::new()),
        Op::PivotRoot => ("pivot-root", String::new()),
        Op::HideMount { path } => ("hide-mount", show(path)),
        Op::MoveRoot => ("move-root", String::new()),
        Op::RootPropagation { change } => {
            ("root-propagation", propagation_name(*change).to_owned())
        }
        other => late_row(other),
    };
    row(operation, object, field)
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
}

/// The operations behind the pivot.
fn late_row(op: &Op<Bytes>) -> (&'static str, String) {
    match op {
        Op::CreateCwd { path } => ("create-cwd", show(path)),
        Op::Terminal(new) => ("terminal", terminal(new)),
        Op::ReopenNull { streams } => {
            let numbers: Vec<_> = (0..8).filter(|n| streams >> n & 1 == 1).collect();
            ("reopen-null", format!("descriptors {numbers:?}"))
        }
        Op::SealMounts => ("seal-mounts", String::new()),
        Op::SealRoot => ("seal-root", "ro".to_owned()),
        Op::Hostname { name } => ("hostname", show(name)),
        Op::Domainname { name } => ("domainname", show(name)),
        Op::Personality { persona } => ("personality", format!("{persona:#x}")),
        Op::Rlimit { resource, soft, hard } => {
            let (name, soft, hard) = (rlimit_name(*resource), limit(*soft), limit(*hard));
            ("rlimit", format!("{name} {soft}:{hard}"))
        }
        Op::Scheduler(new) => ("scheduler", scheduling_text(new)),
        Op::IoPriority { class, level } => ("io-priority", io_priority(*class, *level)),
        Op::MemoryPolicy { mode, nodes } => ("memory-policy", memory_policy_text(*mode, &nodes.0)),
        Op::Umask { mask } => ("umask", format!("{mask:04o}")),
        Op::NoNewPrivileges => ("no-new-privs", String::new()),
        Op::Seccomp { flags, program } => {
            let (count, digest) = (program.0.len() / 8, digest(&program.0));
            ("seccomp", format!("{count} instructions, digest {digest:016x}, flags {flags:#x}"))
        }
        Op::Chdir { path } => ("chdir", show(path)),
        Op::CloseDescriptors => ("close-descriptors", String::new()),
        Op::ChdirAgain { path } => ("chdir-again", show(path)),
        Op::FindHome { uid } => ("find-home", format!("of uid {uid}")),
        Op::BoundingSet { keep } => ("bounding-set", set(*keep)),
        Op::Groups { gids: list } => ("groups", gids(list)),
        Op::User { uid, gid } => ("user", format!("{uid}:{gid}")),
        Op::Capabilities(sets) => {
            let (effective, permitted) = (set(sets.effective), set(sets.permitted));
            let (inheritable, ambient) = (set(sets.inheritable), set(sets.ambient));
            let text = format!(
                "effective: {effective}; permitted: {permitted}; inheritable: {inheritable}; ambient: {ambient}"
            );
            ("capabilities", text)
        }
        Op::FindProgram { name, path } => {
            ("find-program", format!("{} in {}", show(name), show(path)))
        }
        Op::Notify(what) => ("notify", message(*what).to_owned()),
        Op::Await(what) => ("await", message(*what).to_owned()),
        Op::Reborn { terminal } => {
            let rest = if *terminal { ", with the terminal" } else { "" };
            ("reborn", format!("in the joined pid namespace{rest}"))
        }
        Op::AwaitStart => ("await-start", String::new()),
        Op::Exec { args, env } => {
            let (args, env) = (list(args).join(" "), list(env).join(" "));
            ("exec", format!("{args} env [{env}]"))
        }
        // The others are told by `child_row`.
        _ => ("?", String::new()),
    }
}

/// One line of the creator's column.
fn host_row(Step { op, field }: &Step<HostOp>) -> Row {
    let (operation, object) = match op {
        HostOp::CgroupWrite(write) | HostOp::LateCgroupWrite(write) => {
            let rest = match &write.if_missing {
                IfMissing::Skip => ", if it is there".to_owned(),
                IfMissing::Instead { file, value } => format!(", or {file} = {value}"),
                _ => String::new(),
            };
            let value = word(write.value.as_bytes());
            ("cgroup-write", format!("{} = {value}{rest}", write.file))
        }
        HostOp::LateUnitProperty(property) => {
            ("property", format!("{} = {}", property.name, property.value))
        }
        HostOp::DeviceProgram(program) => {
            let all = program.instructions();
            let (count, digest) = (all.len(), digest(all.iter().flatten()));
            ("device-program", format!("{count} instructions, digest {digest:016x}"))
        }
        HostOp::CgroupOwner { uid } => ("cgroup-owner", format!("uid {uid}")),
        HostOp::OomScoreAdj(score) => ("oom-score", score.to_string()),
        HostOp::StdioOwner { uid } => ("stdio-owner", format!("uid {uid}")),
        HostOp::MoveNetDevice { name, new_name } => {
            ("move-device", format!("{name} as {new_name}"))
        }
        HostOp::Rdt(group) => ("resctrl", rdt(group)),
        HostOp::JoinRdt(group) => ("resctrl", format!("joins {}", rdt(group))),
        HostOp::IdMaps(maps) => {
            let (uids, gids) = (maps.users.to_bytes(), maps.groups.to_bytes());
            ("id-maps", format!("uid {}; gid {}", ranges(&uids), ranges(&gids)))
        }
        HostOp::HardLimit { resource, hard } => {
            ("hard-limit", format!("{} up to {}", rlimit_name(*resource), limit(*hard)))
        }
        HostOp::IoPriority { class, level } => ("io-priority", io_priority(*class, *level)),
        HostOp::Scheduler(new) => ("scheduler", scheduling_text(new)),
        HostOp::Adopt => ("adopt", "the process that the init was reborn as".to_owned()),
        HostOp::Release => ("release", "the process that the init was reborn as".to_owned()),
        HostOp::TakeListener => ("take-listener", "of the seccomp filter".to_owned()),
        HostOp::CallAgent(agent) => {
            let text = agent.metadata.iter().map(|text| format!(" with {}", word(text.as_bytes())));
            let rest: String = text.collect();
            ("call-agent", format!("{}{rest}", agent.path.display()))
        }
        HostOp::Await(what) => ("await", message(*what).to_owned()),
        HostOp::Notify(what) => ("notify", message(*what).to_owned()),
        HostOp::RunHook(hook) => return hook_row(hook, field),
    };
    row(operation, object, field)
}

/// A group of resctrl.
fn rdt(rdt: &Rdt) -> String {
    let name = if rdt.group.is_empty() { "the root group" } else { &rdt.group };
    let kind = match (rdt.own, rdt.must_exist) {
        (true, _) => " of its own",
        (false, true) => ", which must be there",
        (false, false) => "",
    };
    let lines: Vec<&str> = rdt.expected.iter().chain(&rdt.further).map(String::as_str).collect();
    let lines = if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" ")) };
    let monitor = rdt.monitor.as_ref().map(|name| format!("; monitored as {name}"));
    // Those that a group must have already are told apart from those that are written in any case.
    let further = if rdt.further.is_empty() { "" } else { " (the last written in any case)" };
    format!("{name}{kind}{lines}{further}{}", monitor.unwrap_or_default())
}

fn hook_field(hook: &HookPlan) -> Field {
    format!("hooks.{}[{}]", hook.stage, hook.index).into()
}

/// A hook in the runtime's namespaces.
fn hook_row(hook: &HookPlan, field: &Field) -> Row {
    let HookPlan { path, args, env, timeout, .. } = hook;
    let words = |list: &[String]| {
        list.iter().map(|text| word(text.as_bytes())).collect::<Vec<_>>().join(" ")
    };
    let time = timeout.map_or(String::new(), |seconds| format!(" at most {seconds} s"));
    let args = if args.is_empty() { word(path.to_string_lossy().as_bytes()) } else { words(args) };
    let env = env.as_ref().map_or("inherited".to_owned(), |env| format!("[{}]", words(env)));
    row("run-hook", format!("{}{time}: {args} env {env}", path.display()), field)
}
