//! D-Bus messages (D-Bus specification, Message Protocol): calls out, answers and signals in.

use super::value::Value;
use super::wire::{Malformed, Reader, Writer};

/// Our order of bytes; nobody on the same machine has another.
const ENDIAN: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
/// The protocol's version.
const PROTOCOL: u8 = 1;
/// The part of a header before its fields.
pub(super) const FIXED: usize = 16;
/// The longest message that is read: answers to what is asked here are far shorter.
const LONGEST: usize = 64 * 1024;

/// The kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// A call of a method.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [Value],
}

impl Call<'_> {
    /// The message; `addressed` on a bus, where there is more than one to talk to.
    pub(super) fn encode(&self, serial: u32, addressed: bool) -> Vec<u8> {
        let mut body = Writer::default();
        self.arguments.iter().for_each(|argument| body.value(argument));
        let signature: String = self.arguments.iter().map(Value::signature).collect();
        let mut message = Writer::default();
        message.bytes.extend_from_slice(&[ENDIAN, 1, 0, PROTOCOL]);
        message.u32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
        message.u32(serial);
        message.array(8, |fields| {
            let mut field = |code, value: Value| {
                fields.align(8);
                fields.bytes.push(code);
                fields.variant(&value);
            };
            field(PATH, Value::ObjectPath(self.path.to_owned()));
            field(INTERFACE, Value::text(self.interface));
            field(MEMBER, Value::text(self.member));
            if addressed {
                field(DESTINATION, Value::text(self.destination));
            }
            if !signature.is_empty() {
                field(SIGNATURE, Value::Signature(signature));
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(&body.bytes);
        message.bytes
    }
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The call that it answers; 0 for none.
    pub(super) reply_serial: u32,
    pub(super) path: String,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) error_name: String,
    /// Who sent it, by the bus's word; empty without a bus.
    pub(super) sender: String,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// How long the message is that begins with `bytes`; `None` where that is still to come.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
    let mut reader = Reader::new(fixed);
    if reader.byte()? != ENDIAN {
        return Err(Malformed("a foreign order of bytes"));
    }
    let _kind_and_flags = (reader.byte()?, reader.byte()?);
    if reader.byte()? != PROTOCOL {
        return Err(Malformed("an unknown version of the protocol"));
    }
    let (body, _serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let too_long = Malformed("a message that is too long");
    let number = |value: u32| usize::try_from(value).ok().filter(|value| *value <= LONGEST);
    let body = number(body).ok_or(too_long)?;
    let fields = number(fields).ok_or(too_long)?;
    let whole = (FIXED + fields).next_multiple_of(8) + body;
    if whole > LONGEST { Err(too_long) } else { Ok(Some(whole)) }
}

/// Decodes one whole message.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut reader = Reader::new(bytes);
    let _endian = reader.byte()?; // `length` has looked at it
    let kind = match reader.byte()? {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return Err(Malformed("an unknown kind of message")),
    };
    let _flags_and_version = (reader.byte()?, reader.byte()?);
    let (body, serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if serial == 0 {
        return Err(Malformed("a message without a number"));
    }
    let mut message = Message {
        kind,
        reply_serial: 0,
        path: String::new(),
        interface: String::new(),
        member: String::new(),
        error_name: String::new(),
        sender: String::new(),
        signature: String::new(),
        body: Vec::new(),
    };
    let beyond = || Malformed("header fields that do not end where they should");
    let end = usize::try_from(fields).ok().and_then(|length| FIXED.checked_add(length));
    let end = end.ok_or_else(beyond)?;
    while reader.at() < end {
        field(&mut reader, &mut message)?;
    }
    if reader.at() != end {
        return Err(beyond());
    }
    reader.align(8)?;
    let rest = bytes.get(reader.at()..).unwrap_or_default();
    if usize::try_from(body) != Ok(rest.len()) {
        return Err(Malformed("a body of another length than was said"));
    }
    message.body = rest.to_vec();
    Ok(message)
}

fn field(reader: &mut Reader<'_>, message: &mut Message) -> Result<(), Malformed> {
    reader.align(8)?;
    let code = reader.byte()?;
    let signature = reader.signature()?;
    let text = match code {
        PATH => &mut message.path,
        INTERFACE => &mut message.interface,
        MEMBER => &mut message.member,
        ERROR_NAME => &mut message.error_name,
        SENDER => &mut message.sender,
        SIGNATURE if signature == "g" => {
            reader.signature()?.clone_into(&mut message.signature);
            return Ok(());
        }
        REPLY_SERIAL if signature == "u" => {
            message.reply_serial = reader.u32()?;
            return Ok(());
        }
        REPLY_SERIAL | SIGNATURE => return Err(Malformed("a header field of another type")),
        _ => {
            let rest = reader.skip(signature, 0)?;
            let whole = rest.is_empty();
            return if whole { Ok(()) } else { Err(Malformed("a variant of more than one type")) };
        }
    };
    if signature != if code == PATH { "o" } else { "s" } {
        return Err(Malformed("a header field of another type"));
    }
    reader.text()?.clone_into(text);
    Ok(())
}
