//! One unauthenticated request on its own connection: for operations ports.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use testkit::target::Target;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::Answer;
use super::error::ClientError;

/// Largest response that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Timeout of the whole request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// GETs a path over plain HTTP/1.1.
///
/// # Errors
/// [`ClientError`] when there is no response within 10 s.
pub async fn get(target: &Target, path: &str) -> Result<Answer, ClientError> {
    let answered = timeout(TIMEOUT, exchange(target, path)).await;
    answered.unwrap_or(Err(ClientError::Timeout(TIMEOUT)))
}

async fn exchange(target: &Target, path: &str) -> Result<Answer, ClientError> {
    let connected = TcpStream::connect((target.host.as_str(), target.port)).await;
    let tcp = connected.map_err(|source| ClientError::Connect {
        target: target.clone(),
        source,
    })?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(tcp)).await?;
    let driver = tokio::spawn(driver);
    let request = Request::get(path)
        .header(HOST, target.authority())
        .body(Empty::<Bytes>::new())
        .expect("a path and an authority make a request");
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.map_err(ClientError::Body)?.to_bytes(),
    })
}
