//! systemd as the one who makes the container's cgroup: transient units, over D-Bus.
//!
//! The client is small on purpose: blocking, a handful of messages, a deadline for everything.
//! What the other side sends is read as hostile input; a bus has other users.
//! Source: org.freedesktop.systemd1(5), the D-Bus specification.

mod address;
mod connection;
mod message;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub(crate) use address::address_of;
pub(crate) use value::Value;
pub(crate) use wire::split_type;

use address::Socket;
use connection::{Connection, Fault};
use message::{Call, Message};
use wire::{Malformed, Reader};

use crate::error::{Error, ErrorKind, Result};

/// How long systemd may take for what it is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// systemd's own socket, for root: no bus between, and there before the bus is.
const PRIVATE: &str = "/run/systemd/private";
/// The system bus.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Which systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bus {
    /// The system's.
    System,
    /// A user's, behind the bus with this address.
    User(String),
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// The version of systemd that knows it, where that matters; older ones are not told.
    pub(crate) since: u32,
}

impl Property {
    pub(crate) fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value, since: 0 }
    }
}

/// What [`Manager::start`] did when it failed.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) error: Error,
    /// The property that systemd complains of, by its place.
    pub(crate) property: Option<usize>,
    /// There may be something of the unit.
    pub(crate) begun: bool,
}

/// A systemd that is listening.
#[derive(Debug)]
pub(crate) struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is listening, or nobody who lets us in.
    pub(crate) fn connect(bus: &Bus) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let (sockets, user) = match bus {
            Bus::System => {
                let sockets = vec![
                    (Socket::Path(PRIVATE.into()), false),
                    (Socket::Path(SYSTEM_BUS.into()), true),
                ];
                (sockets, Some(rustix::process::geteuid().as_raw()))
            }
            Bus::User(address) => {
                let sockets = address::sockets(address).into_iter();
                (sockets.map(|socket| (socket, true)).collect(), None)
            }
        };
        Self::connect_to(&sockets, user, deadline).map_err(|fault| {
            let error = fault_error("cannot connect to systemd", fault);
            match bus {
                Bus::System => {
                    error.hint("the systemd cgroup driver needs a host that runs systemd")
                }
                Bus::User(address) => error
                    .hint(format!("tried the user's bus {address:?}; package dbus-user-session")),
            }
        })
    }

    /// Connects to the first of the sockets where somebody lets us in; each with whether it is a bus.
    fn connect_to(
        sockets: &[(Socket, bool)],
        user: Option<u32>,
        deadline: Instant,
    ) -> Result<Self, Fault> {
        let mut fault = Fault::Sys(Errno::NOENT);
        for (socket, is_bus) in sockets {
            match Connection::open(socket, *is_bus, user, deadline) {
                Ok(connection) => return Ok(Self { connection }),
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }

    /// Starts a transient unit that takes `pids` in, and waits until it is there.
    ///
    /// A failed unit of that name that nobody has cleared away is no obstacle.
    pub(crate) fn start(
        &mut self,
        unit: &str,
        properties: &[Property],
        pids: &[u32],
    ) -> Result<(), NotStarted> {
        let failed = |fault| not_started(unit, properties, fault);
        let mut all = self.known(properties).map_err(failed)?;
        if !pids.is_empty() {
            let pids = pids.iter().map(|pid| Value::U32(*pid)).collect();
            all.push(Property::new("PIDs", Value::Array("u".to_owned(), pids)));
        }
        let arguments = [
            Value::text(unit),
            Value::text("replace"),
            encoded(&all),
            Value::Array("(sa(sv))".to_owned(), Vec::new()), // further units
        ];
        self.listen().map_err(failed)?;
        let job = match self.job("StartTransientUnit", &arguments) {
            Err(Fault::Refused(name, _)) if is(&name, "UnitExists") => {
                let _none_or_running = self.reset(unit);
                self.job("StartTransientUnit", &arguments)
            }
            result => result,
        };
        let job = job.map_err(failed)?;
        let result = self.result_of(&job).map_err(failed)?;
        if result == "done" {
            return Ok(());
        }
        let _nothing_to_reset = self.reset(unit);
        let message = format!("error creating systemd unit `{unit}`: got `{result}`");
        let error = Error::new(ErrorKind::System, message);
        Err(NotStarted { error, property: None, begun: true })
    }

    /// Puts a process into a unit that runs: into its cgroup, or `below` in that, as `/sub`.
    /// Success does not say that it is there. Since systemd 238.
    ///
    /// # Errors
    /// systemd refuses.
    pub(crate) fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<()> {
        let pids = Value::Array("u".to_owned(), vec![Value::U32(pid)]);
        let arguments = [Value::text(unit), Value::text(below), pids];
        let failed = |fault| fault_error(&format!("unable to put a process into {unit:?}"), fault);
        self.call("AttachProcessesToUnit", &arguments).map(drop).map_err(failed)
    }

    /// Stops a unit, waits until it has, and has systemd forget how it ended.
    ///
    /// # Errors
    /// systemd does not answer in time.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        let failed = |fault| match fault {
            Fault::Late => {
                let message = format!("Timed out while waiting for systemd to remove {unit}");
                Error::new(ErrorKind::System, message)
            }
            fault => fault_error(&format!("unable to stop unit {unit:?}"), fault),
        };
        let arguments = [Value::text(unit), Value::text("replace")];
        self.listen().map_err(failed)?;
        match self.job("StopUnit", &arguments) {
            Ok(job) => _ = self.result_of(&job).map_err(failed)?,
            Err(Fault::Refused(name, _)) if is(&name, "NoSuchUnit") => return Ok(()),
            Err(fault) => return Err(failed(fault)),
        }
        self.reset(unit)
    }

    /// Has systemd forget a unit that has failed; success where there is none.
    ///
    /// # Errors
    /// systemd does not answer.
    pub(crate) fn reset(&mut self, unit: &str) -> Result<()> {
        match self.call("ResetFailedUnit", &[Value::text(unit)]) {
            Ok(_) | Err(Fault::Refused(..)) => Ok(()),
            Err(fault) => Err(fault_error(&format!("unable to reset unit {unit:?}"), fault)),
        }
    }

    /// Changes properties of a unit until it is gone.
    ///
    /// # Errors
    /// systemd refuses one: then none has changed.
    pub(crate) fn set(&mut self, unit: &str, properties: &[Property]) -> Result<(), NotStarted> {
        let failed = |fault: Fault| NotStarted {
            error: fault_error("unable to set unit properties", fault.clone()),
            property: property_of(properties, &fault),
            begun: true,
        };
        let known = self.known(properties).map_err(failed)?;
        let runtime = Value::Bool(true);
        let arguments = [Value::text(unit), runtime, encoded(&known)];
        self.call("SetUnitProperties", &arguments).map_err(failed)?;
        // systemd writes to the cgroup after it has answered, but before it answers again: what is
        // written next stays.
        self.own_property("Version").map(drop).map_err(failed)
    }

    /// A property of the manager itself that is a string.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn property(&mut self, name: &str) -> Result<String> {
        self.own_property(name)
            .map_err(|fault| fault_error(&format!("cannot ask systemd for {name}"), fault))
    }

    fn own_property(&mut self, name: &str) -> Result<String, Fault> {
        let answer = self.connection.call(&Call {
            destination: NAME,
            path: PATH,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: &[Value::text(MANAGER), Value::text(name)],
        })?;
        let mut reader = Reader::new(&answer.body);
        if answer.signature != "v" || reader.signature()? != "s" {
            return Err(Malformed("an answer of another type").into());
        }
        Ok(reader.text()?.to_owned())
    }

    /// Those that this systemd knows.
    fn known(&mut self, properties: &[Property]) -> Result<Vec<Property>, Fault> {
        let mut known = properties.to_vec();
        if known.iter().any(|property| property.since > 0) {
            let version = version(&self.own_property("Version")?);
            known.retain(|property| property.since <= version);
        }
        Ok(known)
    }

    /// Asks the bus for the news of jobs that have ended. Without a bus they come anyway.
    fn listen(&mut self) -> Result<(), Fault> {
        if self.connection.is_bus() {
            let rule = format!(
                "type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',\
                 member='JobRemoved'"
            );
            self.connection.bus_call("AddMatch", &[&rule])?;
        }
        Ok(())
    }

    fn call(&mut self, member: &str, arguments: &[Value]) -> Result<Message, Fault> {
        let call = Call { destination: NAME, path: PATH, interface: MANAGER, member, arguments };
        self.connection.call(&call)
    }

    /// Calls a method that begins a job.
    fn job(&mut self, member: &str, arguments: &[Value]) -> Result<Job, Fault> {
        let answer = self.call(member, arguments)?;
        if answer.signature != "o" {
            return Err(Malformed("an answer of another type").into());
        }
        let path = Reader::new(&answer.body).text()?.to_owned();
        Ok(Job { path, systemd: answer.sender })
    }

    /// Waits for a job's end: `done`, `failed`, `canceled`, `timeout`, `dependency` or `skipped`.
    fn result_of(&mut self, job: &Job) -> Result<String, Fault> {
        loop {
            let signal = self.connection.signal()?;
            // Anybody on a bus can send us a signal. Who it is from the bus says, and who systemd
            // is it has said with the answer.
            let is_news = signal.sender == job.systemd
                && signal.path == PATH
                && signal.interface == MANAGER
                && signal.member == "JobRemoved"
                && signal.signature == "uoss";
            if !is_news {
                continue;
            }
            let mut reader = Reader::new(&signal.body);
            let (_id, path, _unit, result) =
                (reader.u32()?, reader.text()?, reader.text()?, reader.text()?);
            if path == job.path {
                return Ok(result.chars().filter(char::is_ascii_graphic).take(64).collect());
            }
        }
    }
}

/// A job that has begun, and who does it: on a bus, systemd's unique name.
struct Job {
    path: String,
    systemd: String,
}

fn is(name: &str, short: &str) -> bool {
    name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('.')) == Some(short)
}

/// `a(sv)`
fn encoded(properties: &[Property]) -> Value {
    let one = |property: &Property| {
        let value = Value::Variant(Box::new(property.value.clone()));
        Value::Tuple(vec![Value::text(&property.name), value])
    };
    Value::Array("(sv)".to_owned(), properties.iter().map(one).collect())
}

/// The number of a version such as `252.39-1~deb12u1` or `v257`.
fn version(text: &str) -> u32 {
    let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn not_started(unit: &str, properties: &[Property], fault: Fault) -> NotStarted {
    // Another's of this name is not touched.
    let begun = !matches!(fault, Fault::Refused(..));
    let property = property_of(properties, &fault);
    let error = match fault {
        Fault::Late => {
            let message = format!("Timeout waiting for systemd to create {unit}");
            Error::new(ErrorKind::System, message)
        }
        fault => fault_error(&format!("unable to start unit {unit:?}"), fault),
    };
    NotStarted { error, property, begun }
}

/// The property that a refusal names, if it names one.
fn property_of(properties: &[Property], fault: &Fault) -> Option<usize> {
    let Fault::Refused(_, text) = fault else { return None };
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| properties.iter().position(|property| property.name == word))
}

fn fault_error(what: &str, fault: Fault) -> Error {
    let because = |why: &str| Error::new(ErrorKind::System, format!("{what}: {why}"));
    match fault {
        Fault::Sys(errno) => Error::sys(what.to_owned(), errno),
        Fault::Late => because("no answer in time"),
        Fault::Closed => because("the connection was closed"),
        Fault::Rejected(line) => because(&format!("authentication refused ({line:?})")),
        Fault::Malformed(why) => because(&format!("the other side sent {why}")),
        Fault::Refused(name, text) if text.is_empty() => because(&name),
        Fault::Refused(name, text) => because(&format!("{text} ({name})")),
    }
}
