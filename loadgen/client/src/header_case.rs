//! Header names in the protocol's letter case, on HTTP/1.1.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

/// Makes hyper write `batchTag`, `batchSignature` and the proxy's headers in the protocol's letter
/// case. hyper only writes a header's case as it has read it, so it has to read such a request once.
pub(super) async fn exact_header_names() -> Extensions {
    static NAMES: OnceCell<Extensions> = OnceCell::const_new();
    NAMES.get_or_init(read_header_names).await.clone()
}

async fn read_header_names() -> Extensions {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nbatchTag: x\r\nbatchSignature: x\r\n\
        X-SSL-Client-SHA256: x\r\nX-SSL-Client-DN: x\r\nConnection: close\r\n\r\n";
    let (near, mut far) = tokio::io::duplex(4096);
    far.write_all(REQUEST)
        .await
        .expect("the pipe holds the request");
    let (take, mut taken) = tokio::sync::mpsc::channel(1);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let sent = take.try_send(request.into_parts().0.extensions);
        async move {
            sent.ok();
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let server = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(near), service)
        .await;
    drop((server, far));
    taken.recv().await.unwrap_or_default()
}
