//! Connections whose peers always have something to say.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::ready;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, ReadBuf};

use super::*;
use crate::bounds::{CONTROL_FRAMES_MAX, TIME_SLICE_BYTES};
use crate::slots::{SlotLimits, Slots};

/// Says the same again and again, as fast as it is read, and takes all answers.
struct Flood {
    text: Vec<u8>,
    read_bytes: Arc<AtomicUsize>,
}

impl Flood {
    fn new(text: &[u8]) -> (Self, Arc<AtomicUsize>) {
        let (text, read_bytes) = (text.to_vec(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&read_bytes);
        (Self { text, read_bytes }, counted)
    }
}

impl AsyncRead for Flood {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        // As a socket, which is read a number of times before others are polled.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let from = self.read_bytes.load(Ordering::Relaxed) % self.text.len();
        let whole = self.text.iter().cycle().skip(from);
        let bytes: Vec<u8> = whole
            .take(buffer.remaining().min(16 << 10))
            .copied()
            .collect();
        buffer.put_slice(&bytes);
        self.read_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        coop.made_progress();
        std::task::Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// The most that a counter grows between two polls of another task of the same thread.
async fn most_between_polls(count: &AtomicUsize) -> usize {
    let (mut most, mut before) = (0, count.load(Ordering::Relaxed));
    for _ in 0..100 {
        tokio::task::yield_now().await;
        let now = count.load(Ordering::Relaxed);
        most = most.max(now - before);
        before = now;
    }
    most
}

/// Serves a flood as the operations port does, where everything is answered; counts the answers.
async fn serve(flood: Flood, answered: Arc<AtomicUsize>) {
    let routes = Routes::Operations(Router::new().route(
        "/",
        get(async move || {
            answered.fetch_add(1, Ordering::Relaxed);
        }),
    ));
    let timeouts = Timeouts::new(Duration::from_secs(60), Duration::from_secs(60));
    let connections = Connections::new(HeaderCase::from_hyper().await.unwrap(), timeouts);
    let watchdog = Arc::new(Watchdog::new(Instant::now(), true));
    let slots = Slots::new(
        "test",
        SlotLimits {
            port_max: 4,
            participant_max: 4,
            unidentified_max: 4,
        },
    );
    let holder = Holder::peer(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let accepted = Accepted {
        arrival: Arrival::Operations,
        slot: Arc::new(slots.take(holder, Arc::clone(&watchdog))),
        watchdog,
    };
    let (_running, shutdown) = watch::channel(false);
    connections.serve(flood, accepted, routes, shutdown).await;
}

#[tokio::test]
async fn lets_others_go_first_after_each_of_many_pipelined_requests() {
    let (flood, _) = Flood::new(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n");
    let answered = Arc::<AtomicUsize>::default();
    let serving = tokio::spawn(serve(flood, Arc::clone(&answered)));
    let most = most_between_polls(&answered).await;
    // It may be polled twice, once for what it reads.
    assert!((1..=2).contains(&most), "{most} answered");
    serving.abort();
}

#[tokio::test]
async fn lets_others_go_first_however_much_a_peer_sends() {
    let (flood, read_bytes) = Flood::new(b"body ");
    let watchdog = Arc::new(Watchdog::new(Instant::now(), true));
    let time_slice = Arc::new(TimeSlice::default());
    let mut stream = WatchedIo::new(flood, watchdog, Arc::clone(&time_slice));
    let reading = tokio::spawn(async move {
        let mut read = pin!(async move {
            let mut buffer = vec![0; 16 << 10];
            while stream.read(&mut buffer).await.is_ok() {}
        });
        poll_fn(|cx| time_slice.poll(read.as_mut(), cx)).await;
    });
    let most = most_between_polls(&read_bytes).await;
    assert!((1..=2 * TIME_SLICE_BYTES).contains(&most), "{most}");
    reading.abort();
}

#[tokio::test]
async fn closes_a_connection_on_which_nothing_but_control_frames_come() {
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // The preface comes once: what the flood repeats begins with it and is longer than the budget.
    let pings = PING.repeat(100 * CONTROL_FRAMES_MAX as usize);
    let text = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &pings].concat();
    let (flood, read_bytes) = Flood::new(&text);
    serve(flood, Arc::default()).await;
    let read = read_bytes.load(Ordering::Relaxed);
    let admitted = PING.len() * CONTROL_FRAMES_MAX as usize;
    assert!(read >= admitted, "{read}: not one too few");
    assert!(
        read < admitted + 2 * TIME_SLICE_BYTES,
        "{read} of {}",
        text.len()
    );
}
