//! A server that answers what no server does, on a socket of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::super::*;

/// What is sent to the n-th command of a connection, from 0, and then the server hangs up; nothing for
/// a plain answer.
pub(super) type Script = dyn Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// A packet with its head.
pub(super) fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// As a MySQL 5.7 begins (protocol 10).
pub(super) fn handshake() -> Vec<u8> {
    let capabilities: u32 = 0x0200 | 0x8000 | 0x0008_0000 | 0x2000 | 0x0001;
    let [low0, low1, high0, high1] = capabilities.to_le_bytes();
    let mut payload = b"\x0a5.7.44\0\x01\0\0\0abcdefgh\0".to_vec();
    payload.extend([low0, low1, 33, 2, 0, high0, high1, 21]);
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
    payload
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

/// Three columns of a text each, and one row of them.
fn three_numbers() -> Vec<u8> {
    let column = |name: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let names = [
            text("def"),
            text(""),
            text(""),
            text(""),
            text(name),
            text(""),
        ]
        .concat();
        [&names[..], &[0x0c, 33, 0, 64, 0, 0, 0, 8, 0, 0, 0, 0, 0]].concat()
    };
    let end = [0xfe, 0, 0, 2, 0];
    let packets: [&[u8]; 7] = [
        &[3],
        &column("a"),
        &column("b"),
        &column("c"),
        &end,
        b"\x011\x010\x010",
        &end,
    ];
    let numbered = (1..).zip(packets).map(|(at, payload)| packet(at, payload));
    numbered.flatten().collect()
}

/// Answers every connection until the test's process ends; returns its address.
pub(super) fn serve(greeting: Vec<u8>, script: Arc<Script>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (greeting, script) = (greeting.clone(), Arc::clone(&script));
            // A hostile server hangs up as well: then there is nothing more to say.
            thread::spawn(move || converse(&mut connection.unwrap(), &greeting, &*script));
        }
    });
    format!("mysql://efgs:secret@{address}/efgs")
}

fn converse(connection: &mut TcpStream, greeting: &[u8], script: &Script) -> std::io::Result<()> {
    connection.write_all(greeting)?;
    for command in 0.. {
        let mut head = [0; 4];
        connection.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        connection.read_exact(&mut payload)?;
        if let Some(answer) = script(command, &payload) {
            return connection.write_all(&answer);
        }
        // The first is the login.
        let sequence = if command == 0 { head[3] + 1 } else { 1 };
        let answer = match payload.windows(8).any(|text| text == b"@@log_bi") {
            true => three_numbers(),
            false => packet(sequence, OK),
        };
        connection.write_all(&answer)?;
    }
    Ok(())
}

fn login(url: String) -> Login {
    Login::new(url, None, None)
}

fn open(greeting: Vec<u8>, script: Arc<Script>) -> Result<MysqlConnection, SqlError> {
    MysqlConnection::open(&login(serve(greeting, script)), Timeouts::Short)
}

/// A connection to a server that behaves until the connection is open, and answers everything after
/// that with `answer`.
fn opened(answer: Vec<u8>) -> MysqlConnection {
    let script = move |_: usize, payload: &[u8]| {
        let is_asked = payload.windows(5).any(|text| text == b"query");
        is_asked.then(|| answer.clone())
    };
    open(packet(0, &handshake()), Arc::new(script)).unwrap()
}

fn error_packet(sequence: u8, text: &str) -> Vec<u8> {
    packet(sequence, &[b"\xff\x15\x04#28000", text.as_bytes()].concat())
}

fn is_one_short_line(error: &SqlError) {
    let text = error.to_string();
    assert!(text.chars().count() < 400, "{}", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn a_plain_server_is_used() {
    let plain = |_: usize, _: &[u8]| None;
    let mut connection = open(packet(0, &handshake()), Arc::new(plain)).unwrap();
    connection.script("DO query").unwrap();
    connection.script("DO query").unwrap();
}

#[test]
fn every_cut_of_a_greeting_is_an_error() {
    let whole = handshake();
    for length in 0..whole.len() - 1 {
        let hang_up = |_: usize, _: &[u8]| Some(Vec::new());
        let error = open(packet(0, &whole[..length]), Arc::new(hang_up)).unwrap_err();
        is_one_short_line(&error);
    }
}

#[test]
fn every_answer_to_the_login_that_no_server_gives_is_an_error() {
    let switch = |rest: &[u8]| packet(2, &[b"\xfe", rest].concat());
    let answers: [Vec<u8>; 12] = [
        packet(2, b""),
        packet(2, b"\0"),
        packet(2, b"\xff"),
        packet(2, b"\xff\x15"),
        packet(2, b"\x01"),
        packet(2, b"\x01\x04"),
        packet(2, b"\xfb/etc/passwd"),
        switch(b""),
        switch(b"\0"),
        switch(b"client_ed25519\0"),
        switch(b"parsec\0"),
        switch(b"caching_sha2_password\0"),
    ];
    for answer in answers {
        let script = move |_: usize, _: &[u8]| Some(answer.clone());
        let error = open(packet(0, &handshake()), Arc::new(script)).unwrap_err();
        is_one_short_line(&error);
    }
}

#[test]
fn a_long_error_text_with_line_breaks_is_one_short_line() {
    let text = "denied\r\n\u{1b}[2J\u{1b}[31m".repeat(4000);
    let script = {
        let text = text.clone();
        move |_: usize, _: &[u8]| Some(error_packet(2, &text))
    };
    let error = open(packet(0, &handshake()), Arc::new(script)).unwrap_err();
    is_one_short_line(&error);
    assert!(error.to_string().contains("denied"), "{error}");
    let error = opened(error_packet(1, &text))
        .script("DO query")
        .unwrap_err();
    is_one_short_line(&error);
}

#[test]
fn an_answer_that_the_driver_panics_at_ends_the_connection() {
    let column_of_nothing = [packet(1, &[1]), packet(2, b"")].concat();
    for answer in [packet(1, b""), column_of_nothing, packet(1, b"\xfe\xff")] {
        let mut connection = opened(answer);
        for _ in 0..2 {
            let error = connection.script("DO query").unwrap_err();
            assert!(matches!(error, SqlError::Lost(_)), "{error}");
        }
    }
}

#[test]
fn an_answer_beyond_all_rows_is_refused_before_it_is_read() {
    // Chunks without an end, of which no more than the bound is taken.
    let chunk = packet(1, &vec![b'x'; 0xff_ffff]);
    let chunks = 2 * limits::DATABASE_PACKET_BYTES_MAX / chunk.len();
    let mut connection = opened(chunk.repeat(chunks));
    let error = connection.script("DO query").unwrap_err();
    assert!(matches!(error, SqlError::Lost(_)), "{error}");
    is_one_short_line(&error);
}

/// A column of text, and rows of a number of bytes without an end.
fn endless_rows(connection: &mut TcpStream) -> std::io::Result<()> {
    let names = b"\x03def\0\0\0\x01a\0";
    let column = [&names[..], &[0x0c, 33, 0, 64, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]].concat();
    let end: &[u8] = &[0xfe, 0, 0, 2, 0];
    let head = [&[1][..], &column, end];
    for (at, payload) in (1..).zip(head) {
        connection.write_all(&packet(at, payload))?;
    }
    // A binary row: its head, a bitmap without nulls, a text of 250 bytes.
    let row = [&[0, 0, 250][..], &[b'x'; 250]].concat();
    for sequence in (0..=u8::MAX).cycle().skip(4) {
        connection.write_all(&packet(sequence, &row))?;
    }
    Ok(())
}

/// Otherwise, the list would take all memory.
#[test]
fn rows_without_an_end_are_left_and_the_query_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let script = |_: usize, payload: &[u8]| {
            // Prepared: statement 1 without parameters, with one column.
            let is_prepared = payload.starts_with(b"\x16SELECT endless");
            is_prepared.then(|| packet(1, &[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        };
        converse(&mut connection, &packet(0, &handshake()), &script)?;
        let names = b"\x03def\0\0\0\x01a\0";
        let column = [&names[..], &[0x0c, 33, 0, 64, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]].concat();
        connection.write_all(&packet(2, &column))?;
        connection.write_all(&packet(3, &[0xfe, 0, 0, 2, 0]))?;
        let mut executes = [0; 64];
        let _ = connection.read(&mut executes)?;
        endless_rows(&mut connection)
    });
    let url = format!("mysql://efgs:secret@{address}/efgs");
    let mut connection = MysqlConnection::open(&login(url), Timeouts::Short).unwrap();
    let mut kept = 0;
    let read = (&mut connection as &mut dyn Connection).each_within(
        1 << 20,
        "SELECT endless",
        &[],
        &mut |_| {
            kept += 1;
            Ok(())
        },
    );
    let error = read.unwrap_err();
    assert!(matches!(error, SqlError::Lost(_)), "{error}");
    assert!(error.to_string().contains("SELECT endless"), "{error}");
    assert!((1000..10_000).contains(&kept), "{kept}");
    connection.script("DO query").unwrap_err();
    drop(connection);
    server.join().unwrap().unwrap_err();
}
