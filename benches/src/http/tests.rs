use std::net::TcpListener;

use super::*;
use crate::record::tests::{Peer, meet, parties};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nbatchTag: 20260102-1\r\n\r\nhello";

fn request() -> Rendered {
    Rendered::get("/", &[])
}

/// Asks; tells the answer and its body.
fn ask(connection: &mut Connection) -> io::Result<(Answer, Vec<u8>)> {
    let mut body = Vec::new();
    let answer = connection.ask_into(&request(), |bytes| body.extend_from_slice(bytes))?;
    Ok((answer, body))
}

fn assert_hello(connection: &mut Connection) {
    let (answer, body) = ask(connection).unwrap();
    assert_eq!((answer.status, answer.body_bytes), (200, 5));
    assert_eq!(answer.header("BatchTag"), Some("20260102-1"));
    assert_eq!(body, b"hello");
}

#[test]
fn reads_answers_over_tls_whole_and_byte_by_byte() {
    let (client, server) = parties(None);
    let serve = |mut peer: Peer| {
        for record_bytes in [1, 20, ANSWER.len()] {
            assert_eq!(peer.hear(request().head.len()), request().head);
            ANSWER.chunks(record_bytes).for_each(|some| peer.say(some));
        }
    };
    meet(server, b"", serve, |address| {
        let mut connection = Connection::open(&Route::Tls(address, client)).unwrap();
        for _ in 0..3 {
            assert_hello(&mut connection);
        }
    });
}

/// What a client makes of an answer without TLS.
fn answered(bytes: &[u8]) -> io::Result<(Answer, Vec<u8>)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = vec![0; request().head.len()];
            stream.read_exact(&mut head).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let route = Route::Plain(listener.local_addr().unwrap());
        ask(&mut Connection::open(&route).unwrap())
    })
}

#[test]
fn reads_an_answer_without_tls() {
    let (answer, body) = answered(ANSWER).unwrap();
    assert_eq!((answer.status, answer.body_bytes), (200, 5));
    assert_eq!(body, b"hello");
    let (answer, body) = answered(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.body_bytes), (204, 0));
    assert_eq!(body, b"");
}

#[test]
fn refuses_an_answer_that_is_cut_off_too_long_or_without_length() {
    let error = answered(&ANSWER[..ANSWER.len() - 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = answered(&[ANSWER, b"!"].concat()).unwrap_err().to_string();
    assert_eq!(error, "a body longer than its head says");
    let error = answered(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    assert!(error.to_string().starts_with("no length"), "{error}");
}
