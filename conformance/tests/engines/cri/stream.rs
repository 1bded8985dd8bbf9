//! The client of containerd's streaming server, as `kubectl exec` and `kubectl attach` are it through the kubelet: a
//! WebSocket (RFC 6455) whose messages begin with the number of a channel (subprotocol `v4.channel.k8s.io`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use orlop_conformance::run::limit;

/// 0 to 2 are the standard streams; then what became of the command, and the terminal's size, both as JSON.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;

/// A final binary frame, and the server's farewell.
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

pub(super) struct Stream {
    socket: BufReader<TcpStream>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// What there was when a command, or the container attached to, had ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    status: serde_json::Value,
}

impl Stream {
    /// Connects to what `Exec` or `Attach` has answered, which is good for once.
    pub(super) fn open(url: &str) -> Self {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut socket = TcpStream::connect(host).unwrap();
        socket.set_read_timeout(Some(limit())).unwrap();
        // The key is a nonce against caches between the two, of which there are none.
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: b3Jsb3AncyBlbmdpbmVzIQ==\r\n\
             Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut socket = BufReader::new(socket);
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            assert_ne!(socket.read_line(&mut answer).unwrap(), 0, "{answer}");
        }
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("v4.channel.k8s.io"), "{answer}");
        Self { socket, stdout: Vec::new(), stderr: Vec::new() }
    }

    fn send(&mut self, channel: u8, data: &[u8]) {
        for part in data.chunks(16 << 10) {
            let length = u16::try_from(part.len() + 1).unwrap().to_be_bytes();
            // 126: the length follows, in two bytes; 128: and a mask, which a client must have. This one changes nothing.
            let head = [BINARY, 128 | 126, length[0], length[1], 0, 0, 0, 0, channel];
            self.socket.get_mut().write_all(&[&head, part].concat()).unwrap();
        }
    }

    pub(super) fn write(&mut self, data: &[u8]) {
        self.send(STDIN, data);
    }

    pub(super) fn resize(&mut self, rows: u16, columns: u16) {
        self.send(RESIZE, format!(r#"{{"Width": {columns}, "Height": {rows}}}"#).as_bytes());
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).unwrap_or_else(|e| panic!("{e}: {}", self.said()));
        bytes
    }

    /// Takes one message; the status, where it is that.
    fn receive(&mut self) -> Option<serde_json::Value> {
        let [kind, short] = self.bytes();
        let length = match short {
            126 => u64::from(u16::from_be_bytes(self.bytes())),
            127 => u64::from_be_bytes(self.bytes()),
            _ => u64::from(short),
        };
        let mut data = vec![0; usize::try_from(length).unwrap()];
        self.socket.read_exact(&mut data).unwrap();
        assert_ne!(kind, CLOSE, "closed without a status: {}", self.said());
        assert_eq!(kind, BINARY, "whole messages, without questions between them");
        let (channel, data) = data.split_first().expect("a channel");
        match *channel {
            STDOUT => self.stdout.extend_from_slice(data),
            STDERR => self.stderr.extend_from_slice(data),
            STATUS => return Some(serde_json::from_slice(data).unwrap()),
            other => panic!("channel {other}"),
        }
        None
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&[&self.stdout[..], &self.stderr].concat()).into_owned()
    }

    /// Reads until each output has said its text.
    pub(super) fn read_until(&mut self, stdout: &str, stderr: &str) {
        let said = |stream: &[u8], text: &str| String::from_utf8_lossy(stream).contains(text);
        while !said(&self.stdout, stdout) || !said(&self.stderr, stderr) {
            let end = self.receive();
            assert!(end.is_none(), "{end:?} after {}", self.said());
        }
    }

    /// Reads to the status, which comes behind all output.
    pub(super) fn end(mut self) -> End {
        loop {
            if let Some(status) = self.receive() {
                return End { stdout: self.stdout, stderr: self.stderr, status };
            }
        }
    }
}

impl End {
    /// The exit code; of what could not be started, why.
    pub(super) fn code(&self) -> Result<i32, String> {
        if self.status["status"] == "Success" {
            return Ok(0);
        }
        let cause = &self.status["details"]["causes"][0];
        if self.status["reason"] == "NonZeroExitCode" && cause["reason"] == "ExitCode" {
            return Ok(cause["message"].as_str().unwrap().parse().unwrap());
        }
        Err(self.status["message"].as_str().unwrap_or_default().to_owned())
    }
}
