//! A typical national backend, used by most rows and scenarios.

use std::sync::atomic::{AtomicU32, Ordering};

use super::batch::{Key, fresh_keys, signed_bytes, to_json, to_protobuf};
use super::cms::{SERVICE, Shape};
use super::pki::member;
use super::raw::{Answer, Raw, Request};
use super::world::World;

pub(crate) const PROTOBUF: &str = "application/protobuf; version=1.0";
pub(crate) const JSON: &str = "application/json; version=1.0";

/// A unique upload tag.
pub(crate) fn fresh_tag() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("tag-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A batch with its signature, to be sent by a country.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) country: &'static str,
    pub(crate) tag: String,
    pub(crate) keys: Vec<Key>,
    pub(crate) signature: String,
}

impl Upload {
    /// Fresh keys.
    pub(crate) fn fresh(world: &World, country: &'static str, key_count: usize) -> Self {
        let keys = fresh_keys(country, world.now(), key_count);
        Self::of(world, country, keys)
    }

    /// These keys, under a fresh tag.
    pub(crate) fn of(world: &World, country: &'static str, keys: Vec<Key>) -> Self {
        Self::shaped(world, country, keys, SERVICE)
    }

    /// These keys, signed as a certain client signs.
    pub(crate) fn shaped(
        world: &World,
        country: &'static str,
        keys: Vec<Key>,
        shape: Shape,
    ) -> Self {
        let signer = &member(country).signing;
        Self {
            country,
            tag: fresh_tag(),
            signature: shape.sign_base64(signer, &signed_bytes(&keys), world.now()),
            keys,
        }
    }

    pub(crate) fn tagged(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.tag);
        self
    }

    /// As protobuf, without an identity: for a connection with a certificate.
    pub(crate) fn plain_request(&self) -> Request {
        Request::new("POST", "/diagnosiskeys/upload")
            .with("Content-Type", PROTOBUF)
            .with("Accept", JSON)
            .with("batchTag", &self.tag)
            .with("batchSignature", &self.signature)
            .body(to_protobuf(&self.keys))
    }

    /// As protobuf, through a proxy.
    pub(crate) fn request(&self) -> Request {
        identify(self.plain_request(), self.country)
    }

    /// As JSON, through a proxy.
    pub(crate) fn json_request(&self) -> Request {
        let request = self.request().set("Content-Type", JSON);
        request.body(to_json(&self.keys))
    }

    /// Sends it through a proxy.
    pub(crate) fn send(&self, world: &World) -> Answer {
        ask(world, &self.request())
    }

    /// Sends it and asserts that it is stored.
    pub(crate) fn store(self, world: &World) -> Self {
        self.send(world).expect(201);
        self
    }
}

/// Adds the headers of a proxy.
pub(crate) fn identify(request: Request, country: &str) -> Request {
    request
        .with("X-SSL-Client-SHA256", member(country).authentication.hex())
        .with(
            "X-SSL-Client-DN",
            format!("C={country},O=EFGS test {country}"),
        )
}

/// Sends a request on a separate connection to the proxy port.
pub(crate) fn ask(world: &World, request: &Request) -> Answer {
    world.proxy().ask(request.bytes())
}

/// `GET /diagnosiskeys/download/{date}` through a proxy.
pub(crate) fn download_request(country: &str, date: &str) -> Request {
    let path = format!("/diagnosiskeys/download/{date}");
    identify(Request::get(&path), country).with("Accept", PROTOBUF)
}

/// Downloads through a proxy; the batch of a tag, or the first of a day.
pub(crate) fn download(world: &World, country: &str, date: &str, tag: Option<&str>) -> Answer {
    let request = download_request(country, date);
    let request = match tag {
        Some(tag) => request.with("batchTag", tag),
        None => request,
    };
    ask(world, &request)
}

/// `GET /diagnosiskeys/audit/download/{date}/{batchTag}` through a proxy.
pub(crate) fn audit_request(country: &str, date: &str, tag: &str) -> Request {
    let path = format!("/diagnosiskeys/audit/download/{date}/{tag}");
    identify(Request::get(&path), country).with("Accept", JSON)
}

/// Audits through a proxy.
pub(crate) fn audit(world: &World, country: &str, date: &str, tag: &str) -> Answer {
    ask(world, &audit_request(country, date, tag))
}

/// A backend that keeps a connection with its certificate.
#[derive(Debug)]
pub(crate) struct Backend<'w> {
    pub(crate) world: &'w World,
    pub(crate) country: &'static str,
    pub(crate) raw: Raw,
}

impl<'w> Backend<'w> {
    pub(crate) fn connect(world: &'w World, country: &'static str) -> Self {
        Self {
            world,
            country,
            raw: world.tls(country),
        }
    }

    pub(crate) fn send(&mut self, upload: &Upload) -> Answer {
        self.raw.ask(upload.plain_request().bytes())
    }

    /// Uploads fresh keys, which are stored.
    pub(crate) fn store(&mut self, key_count: usize) -> Upload {
        let upload = Upload::fresh(self.world, self.country, key_count);
        self.send(&upload).expect(201);
        upload
    }

    pub(crate) fn download(&mut self, date: &str, tag: Option<&str>, accept: &str) -> Answer {
        let path = format!("/diagnosiskeys/download/{date}");
        let request = Request::get(&path).with("Accept", accept);
        let request = match tag {
            Some(tag) => request.with("batchTag", tag),
            None => request,
        };
        self.raw.ask(request.bytes())
    }
}
