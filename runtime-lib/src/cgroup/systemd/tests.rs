//! The client against a systemd of its own making: one that keeps to a script, or is hostile.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::message::{Kind, decode, length};
use super::wire::Writer;
use super::*;

/// The other side of a connection.
struct Peer {
    reader: BufReader<UnixStream>,
    is_bus: bool,
    /// What has been called.
    calls: Vec<String>,
}

/// Who sends a message, and what it is about.
#[derive(Clone, Copy)]
struct From {
    sender: &'static str,
    member: &'static str,
}

const SYSTEMD: &str = ":1.0";
const JOB_REMOVED: From = From { sender: SYSTEMD, member: "JobRemoved" };

fn encode(kind: u8, reply: u32, from: From, error: &str, arguments: &[Value]) -> Vec<u8> {
    let mut body = Writer::default();
    arguments.iter().for_each(|argument| body.value(argument));
    let signature: String = arguments.iter().map(Value::signature).collect();
    let mut message = Writer::default();
    let endian = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    message.bytes.extend_from_slice(&[endian, kind, 1, 1]);
    message.u32(u32::try_from(body.bytes.len()).unwrap());
    message.u32(77);
    message.array(8, |fields| {
        let mut field = |code, value: Value| {
            fields.align(8);
            fields.bytes.push(code);
            fields.variant(&value);
        };
        if kind == 4 {
            field(1, Value::ObjectPath(PATH.to_owned()));
            field(2, Value::text(MANAGER));
            field(3, Value::text(from.member));
        }
        if kind == 3 {
            field(4, Value::text(error));
        }
        if reply != 0 {
            field(5, Value::U32(reply));
        }
        field(7, Value::text(from.sender));
        field(99, Value::Array("(sv)".to_owned(), Vec::new()));
        if !signature.is_empty() {
            field(8, Value::Signature(signature));
        }
    });
    message.align(8);
    message.bytes.extend_from_slice(&body.bytes);
    message.bytes
}

fn job_removed(from: From, job: &str, result: &str) -> Vec<u8> {
    let arguments = [
        Value::U32(1),
        Value::ObjectPath(job.to_owned()),
        Value::text("x.scope"),
        Value::text(result),
    ];
    encode(4, 0, from, "", &arguments)
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        let _hung_up: std::io::Result<()> = self.reader.get_mut().write_all(bytes);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_start_matches('\0').trim_end().to_owned()
    }

    /// The next call: its number, and what is called.
    fn next(&mut self) -> Option<(u32, String)> {
        let mut bytes = vec![0; 16];
        self.reader.read_exact(&mut bytes).ok()?;
        let whole = length(&bytes).unwrap().unwrap();
        bytes.resize(whole, 0);
        self.reader.read_exact(&mut bytes[16..]).ok()?;
        let call = decode(&bytes).unwrap();
        assert_eq!(call.kind, Kind::Call);
        let serial = u32::from_ne_bytes(bytes[8..12].try_into().unwrap());
        self.calls.push(call.member.clone());
        Some((serial, call.member))
    }

    /// Lets the client in.
    fn greet(&mut self) {
        assert_eq!(self.line(), "AUTH EXTERNAL 30");
        assert_eq!(self.line(), "BEGIN");
        self.send(b"OK 0123456789abcdef\r\n");
        if self.is_bus {
            self.expect_and_answer("Hello", &[Value::text(":1.7")]);
        }
    }

    fn answer(&mut self, serial: u32, arguments: &[Value]) {
        self.send(&encode(2, serial, JOB_REMOVED, "", arguments));
    }

    fn expect_and_answer(&mut self, member: &str, arguments: &[Value]) {
        let (serial, called) = self.next().unwrap();
        assert_eq!(called, member);
        self.answer(serial, arguments);
    }

    fn refuse(&mut self, member: &str, name: &str, text: &str) {
        let (serial, called) = self.next().unwrap();
        assert_eq!(called, member);
        self.send(&encode(3, serial, JOB_REMOVED, name, &[Value::text(text)]));
    }

    /// `AddMatch`, and the beginning of a job of this path.
    fn begin_job(&mut self, member: &str, path: &str) {
        if self.is_bus {
            self.expect_and_answer("AddMatch", &[]);
        }
        self.expect_and_answer(member, &[Value::ObjectPath(path.to_owned())]);
    }
}

/// A server with its script in a thread, and the result of a client of it.
fn with_server<T>(
    is_bus: bool,
    patience: Duration,
    script: impl FnOnce(&mut Peer) + Send + 'static,
    client: impl FnOnce(Result<Manager, Fault>) -> T,
) -> (T, Vec<String>) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("orlop-bus-{}-{number}", std::process::id());
    let path: PathBuf = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    let server: JoinHandle<Vec<String>> = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut peer = Peer { reader: BufReader::new(stream), is_bus, calls: Vec::new() };
        script(&mut peer);
        let _until_it_hangs_up = std::io::copy(&mut peer.reader, &mut std::io::sink());
        peer.calls
    });
    let socket = Socket::Path(path.to_str().unwrap().as_bytes().to_vec());
    let nobody = Socket::Path(b"/nonexistent/bus".to_vec());
    let sockets = [(nobody, false), (socket, is_bus)];
    let result = client(Manager::connect_to(&sockets, Some(0), Instant::now() + patience));
    let calls = server.join();
    std::fs::remove_file(&path).unwrap();
    (result, calls.unwrap())
}

const LONG: Duration = Duration::from_secs(20);

fn started(
    is_bus: bool,
    patience: Duration,
    script: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Result<(), NotStarted>, Vec<String>) {
    with_server(is_bus, patience, script, |manager| {
        manager.unwrap().start("x.scope", &[Property::new("Delegate", Value::Bool(true))], &[5])
    })
}

fn failure(patience: Duration, script: impl FnOnce(&mut Peer) + Send + 'static) -> String {
    started(false, patience, script).0.unwrap_err().error.to_string()
}

#[test]
fn a_unit_is_started_with_and_without_a_bus() {
    for is_bus in [true, false] {
        let (result, calls) = started(is_bus, LONG, |peer| {
            peer.greet();
            peer.begin_job("StartTransientUnit", "/job/1");
            peer.send(&job_removed(JOB_REMOVED, "/job/1", "done"));
        });
        result.unwrap();
        let expected: &[&str] = match is_bus {
            true => &["Hello", "AddMatch", "StartTransientUnit"],
            false => &["StartTransientUnit"],
        };
        assert_eq!(calls, expected);
    }
}

#[test]
fn only_systemds_own_word_on_this_job_counts() {
    let (result, _) = started(true, LONG, |peer| {
        peer.greet();
        // Also before the answer.
        peer.send(&job_removed(JOB_REMOVED, "/job/0", "failed"));
        peer.begin_job("StartTransientUnit", "/job/1");
        peer.send(&job_removed(From { sender: ":1.66", ..JOB_REMOVED }, "/job/1", "failed"));
        peer.send(&job_removed(From { member: "JobNew", ..JOB_REMOVED }, "/job/1", "failed"));
        peer.send(&encode(4, 0, JOB_REMOVED, "", &[Value::text("/job/1")]));
        peer.send(&job_removed(JOB_REMOVED, "/job/2", "failed"));
        peer.send(&job_removed(JOB_REMOVED, "/job/1", "done"));
    });
    result.unwrap();
}

#[test]
fn a_result_that_comes_before_the_answer_is_not_lost() {
    let (result, _) = started(false, LONG, |peer| {
        peer.greet();
        let (serial, _) = peer.next().unwrap();
        peer.send(&job_removed(JOB_REMOVED, "/job/1", "done"));
        peer.answer(serial, &[Value::ObjectPath("/job/1".to_owned())]);
    });
    result.unwrap();
}

#[test]
fn a_job_that_fails_is_told_and_reset() {
    let (result, calls) = started(false, LONG, |peer| {
        peer.greet();
        peer.begin_job("StartTransientUnit", "/job/1");
        peer.send(&job_removed(JOB_REMOVED, "/job/1", "failed"));
        peer.expect_and_answer("ResetFailedUnit", &[]);
    });
    let failed = result.unwrap_err();
    assert!(failed.begun);
    assert_eq!(failed.error.to_string(), "error creating systemd unit `x.scope`: got `failed`");
    assert_eq!(calls, ["StartTransientUnit", "ResetFailedUnit"]);
}

const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

#[test]
fn a_stale_unit_of_that_name_is_reset_once() {
    let (result, calls) = started(false, LONG, |peer| {
        peer.greet();
        peer.refuse("StartTransientUnit", EXISTS, "Unit x.scope already exists.");
        peer.expect_and_answer("ResetFailedUnit", &[]);
        peer.begin_job("StartTransientUnit", "/job/1");
        peer.send(&job_removed(JOB_REMOVED, "/job/1", "done"));
    });
    result.unwrap();
    assert_eq!(calls, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn a_unit_that_runs_is_somebody_elses() {
    let (result, calls) = started(false, LONG, |peer| {
        peer.greet();
        peer.refuse("StartTransientUnit", EXISTS, "Unit x.scope already exists.");
        peer.refuse("ResetFailedUnit", "org.freedesktop.systemd1.NoSuchUnit", "");
        peer.refuse("StartTransientUnit", EXISTS, "Unit x.scope already exists.");
    });
    let failed = result.unwrap_err();
    assert!(!failed.begun, "nothing of it may be cleaned up");
    assert_eq!(
        failed.error.to_string(),
        format!("unable to start unit \"x.scope\": Unit x.scope already exists. ({EXISTS})")
    );
    assert_eq!(calls.len(), 3);
}

#[test]
fn a_refused_property_is_found() {
    let (result, _) = started(false, LONG, |peer| {
        peer.greet();
        peer.refuse(
            "StartTransientUnit",
            "org.freedesktop.DBus.Error.PropertyReadOnly",
            "Cannot set property Delegate, or unknown property.",
        );
    });
    let failed = result.unwrap_err();
    assert_eq!((failed.property, failed.begun), (Some(0), false));
}

#[test]
fn a_property_of_a_newer_systemd_is_left_out() {
    for (version, told) in [("252.39-1~deb12u1", false), ("v253", true)] {
        let script = move |peer: &mut Peer| {
            peer.greet();
            let version = Value::Variant(Box::new(Value::text(version)));
            peer.expect_and_answer("Get", &[version]);
            let mut bytes = vec![0; 16];
            peer.reader.read_exact(&mut bytes).unwrap();
            bytes.resize(length(&bytes).unwrap().unwrap(), 0);
            peer.reader.read_exact(&mut bytes[16..]).unwrap();
            let found = bytes.windows(9).any(|window| window == b"OOMPolicy");
            peer.calls.push(found.to_string());
            peer.answer(2, &[]);
            let version = Value::Variant(Box::new(Value::text("")));
            peer.expect_and_answer("Get", &[version]);
        };
        let property = Property { since: 253, ..Property::new("OOMPolicy", Value::text("kill")) };
        let (result, calls) =
            with_server(false, LONG, script, |manager| manager.unwrap().set("x", &[property]));
        result.unwrap();
        assert_eq!(calls[1], told.to_string(), "{version}");
    }
}

#[test]
fn a_unit_is_stopped_and_forgotten() {
    let (result, calls) = with_server(
        true,
        LONG,
        |peer| {
            peer.greet();
            peer.begin_job("StopUnit", "/job/1");
            peer.send(&job_removed(JOB_REMOVED, "/job/1", "failed"));
            peer.refuse("ResetFailedUnit", "org.freedesktop.systemd1.NoSuchUnit", "");
        },
        |manager| manager.unwrap().stop("x.scope"),
    );
    result.unwrap();
    assert_eq!(calls, ["Hello", "AddMatch", "StopUnit", "ResetFailedUnit"]);
    let none = |peer: &mut Peer| {
        peer.greet();
        peer.refuse("StopUnit", "org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.");
    };
    with_server(false, LONG, none, |manager| manager.unwrap().stop("x.scope")).0.unwrap();
}

#[test]
fn a_systemd_that_does_not_answer_is_not_waited_for_forever() {
    // Long enough for a greeting on a busy machine.
    let short = Duration::from_millis(1500);
    let begin = Instant::now();
    let error = failure(short, |peer| peer.greet());
    assert_eq!(error, "Timeout waiting for systemd to create x.scope");
    let error = failure(short, |peer| {
        peer.greet();
        peer.begin_job("StartTransientUnit", "/job/1");
    });
    assert_eq!(error, "Timeout waiting for systemd to create x.scope");
    // One that never stops talking has no more time.
    let error = failure(short, |peer| {
        peer.greet();
        peer.begin_job("StartTransientUnit", "/job/1");
        let end = Instant::now() + Duration::from_secs(6);
        while Instant::now() < end {
            peer.send(&job_removed(JOB_REMOVED, "/job/2", "done"));
        }
    });
    assert_eq!(error, "Timeout waiting for systemd to create x.scope");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let (result, _) = with_server(false, short, |_| {}, |manager| manager.map(drop));
    assert_eq!(result.unwrap_err(), Fault::Late);
}

#[test]
fn who_is_not_let_in_says_so() {
    let rejected = |words: &'static [u8]| {
        let script = move |peer: &mut Peer| {
            let _ = (peer.line(), peer.line());
            peer.send(words);
            // What was said must be read before the end.
            peer.reader.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        };
        with_server(false, LONG, script, |manager| manager.map(drop)).0.unwrap_err()
    };
    let line = "REJECTED EXTERNAL".to_owned();
    assert_eq!(rejected(b"REJECTED EXTERNAL\r\n"), Fault::Rejected(line));
    assert_eq!(rejected(b"OKAY\r\n"), Fault::Rejected("OKAY".to_owned()));
    assert_eq!(rejected(b""), Fault::Closed);
    assert_eq!(rejected(b"\xff\r\n"), Fault::Malformed("a line that is not UTF-8"));
    assert_eq!(rejected(&[b'x'; 5000]), Fault::Malformed("a line without an end"));
}

#[test]
fn nonsense_ends_the_talk() {
    for (bytes, why) in [
        (b"x\x02\x01\x01\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec(), "a foreign order of bytes"),
        (b"l\x02\x01\x07\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec(), "an unknown version of the protocol"),
        (b"l\x02\x01\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0".to_vec(), "a message that is too long"),
        (b"l\x02\x01\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\x7f".to_vec(), "a message that is too long"),
        (b"l\x09\x01\x01\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec(), "an unknown kind of message"),
        (b"l\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "a message without a number"),
        (encode(2, 1, JOB_REMOVED, "", &[Value::text("/job/1")]), "an answer of another type"),
        (encode(2, 1, JOB_REMOVED, "", &[]), "an answer of another type"),
    ] {
        let error = failure(LONG, move |peer| {
            peer.greet();
            peer.next();
            peer.send(&bytes);
        });
        assert_eq!(error, format!("unable to start unit \"x.scope\": the other side sent {why}"));
    }
    let error = failure(LONG, |peer| {
        peer.greet();
        peer.next();
        peer.send(b"l\x02");
        peer.reader.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert_eq!(error, "unable to start unit \"x.scope\": the connection was closed");
}

#[test]
fn foreign_words_are_fit_to_be_shown() {
    let error = failure(LONG, |peer| {
        peer.greet();
        let text = format!("a\n\u{1b}[31mb{}", "c".repeat(5000));
        peer.refuse("StartTransientUnit", "x.y", &text);
    });
    assert!(error.contains("a  [31mbc"), "{error}");
    assert!(error.len() < 700 && !error.contains(char::is_control));
}

fn nested(depth: usize) -> Vec<u8> {
    let mut value = Value::Byte(1);
    for _ in 0..depth {
        value = Value::Variant(Box::new(value));
    }
    let mut message = Writer::default();
    message.bytes.extend_from_slice(b"l\x04\0\x01");
    message.u32(0);
    message.u32(1);
    message.array(8, |fields| {
        fields.bytes.push(99);
        fields.variant(&value);
    });
    message.align(8);
    message.bytes
}

#[test]
#[cfg(target_endian = "little")]
fn values_nested_too_deep_are_refused() {
    assert!(decode(&nested(30)).is_ok());
    assert_eq!(decode(&nested(5000)).unwrap_err().0, "a value nested too deep");
}

#[test]
fn no_damage_to_a_message_does_more_than_that() {
    let good = job_removed(JOB_REMOVED, "/job/1", "done");
    let message = decode(&good).unwrap();
    assert_eq!(length(&good), Ok(Some(good.len())));
    assert_eq!((message.sender.as_str(), message.signature.as_str()), (SYSTEMD, "uoss"));
    for end in 0..good.len() {
        assert!(decode(&good[..end]).is_err(), "cut off at {end}");
    }
    for place in 0..good.len() {
        for value in [0, 1, 7, 0x7f, 0x80, 0xff, good[place] ^ 1, good[place].wrapping_add(1)] {
            let mut bad = good.clone();
            bad[place] = value;
            let _ = (length(&bad), decode(&bad)); // an answer of either kind, and no panic
        }
    }
}

#[test]
#[cfg(target_endian = "little")]
fn calls_are_encoded_as_the_specification_says() {
    let call = Call {
        destination: NAME,
        path: "/a",
        interface: "b.c",
        member: "D",
        arguments: &[
            Value::Byte(1),
            Value::text("ab"),
            Value::Array(
                "(sv)".to_owned(),
                vec![Value::Tuple(vec![Value::text("k"), Value::Variant(Box::new(Value::U64(2)))])],
            ),
            Value::Array("t".to_owned(), Vec::new()),
            Value::Bool(true),
        ],
    };
    let mut expected = b"l\x01\0\x01\x34\0\0\0\x05\0\0\0\x40\0\0\0".to_vec();
    expected.extend_from_slice(b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x02\x01s\0\x03\0\0\0b.c\0\0\0\0\0");
    expected.extend_from_slice(b"\x03\x01s\0\x01\0\0\0D\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x08\x01g\0\x0aysa(sv)atb\0");
    expected.extend_from_slice(b"\x01\0\0\0\x02\0\0\0ab\0\0\x18\0\0\0");
    expected.extend_from_slice(b"\x01\0\0\0k\0\x01t\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\0\0\0\0\0\0\0\0\x01\0\0\0");
    let found = call.encode(5, false);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert_eq!(found, expected);
    assert!(call.encode(5, true).len() > found.len());
}
