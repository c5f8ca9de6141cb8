//! Gateways as `efgs init` sets them up.

use super::*;

#[test]
fn prints_its_addresses_and_stops_on_a_signal() {
    let installation = Installation::new("DE");
    for signal in ["TERM", "INT"] {
        let mut serve = installation.serve();
        let (gateway, addresses) = Gateway::start(serve.env("EFGS__PROXY__LISTEN", "127.0.0.1:0"));
        let names: Vec<_> = addresses.iter().map(|(name, _)| name.as_str()).collect();
        // Operators can ask while the engine starts.
        assert_eq!(names, ["operations", "public", "proxy"]);
        assert!(addresses.iter().all(|(_, address)| address.port() != 0));
        let output = gateway.stop(signal);
        assert!(output.status.success(), "{signal}: {:?}", texts(&output));
    }
}

/// DE's certificate has a P-256 key, IT's an RSA key.
#[test]
fn lets_every_onboarded_backend_connect_with_the_certificates_of_init() {
    let installation = Installation::new("DE,IT");
    let (gateway, addresses) = Gateway::start(&mut installation.serve());
    let address = addresses[1].1.to_string();
    for country in ["DE", "IT"] {
        let (certificate, key) = (
            format!("{country}/authentication.pem"),
            format!("{country}/authentication.key"),
        );
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-CAfile",
            "server-ca.pem",
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
            "-cert",
            &certificate,
            "-key",
            &key,
        ];
        if let Some(said) = openssl(&arguments, &installation.path("pki")) {
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        }
    }
    let (_, operations) = &addresses[0];
    let mut connection = TcpStream::connect(operations).unwrap();
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(gateway.stop("TERM").status.success());
}

/// Subscribes without a gateway.
fn subscribe(installation: &Installation, country: &str, id: &str, url: &str) {
    let settings = Settings::load(&installation.path("efgs.toml"), []).unwrap();
    let engine = Engine::start(settings.engine, Arc::new(SystemClock)).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let country = Country::parse(country).unwrap();
    let id = CallbackId::parse(id).unwrap();
    let callbacks = engine.callbacks();
    callbacks.subscribe(country, id, url.into(), move |done| {
        sender.send(done).unwrap();
    });
    assert_eq!(receiver.recv().unwrap().unwrap(), Subscribed::Taken);
}

#[test]
fn shows_callback_subscriptions_and_enables_them() {
    let installation = Installation::new("DE");
    let callback = |arguments: &[&str]| {
        let mut all = vec!["callback"];
        all.extend(arguments);
        installation.efgs(&all)
    };
    assert_eq!(succeeds(&mut callback(&["list"])), "");
    assert_eq!(
        succeeds(&mut callback(&["list", "--format", "json"])),
        "[]\n"
    );
    subscribe(&installation, "DE", "main", "https://example.org/cb");
    let active = "DE  main  active  nothing pending  0 behind  https://example.org/cb\n";
    assert_eq!(succeeds(&mut callback(&["list"])), active);
    let disabled = succeeds(&mut callback(&["disable", "--country", "DE", "main"]));
    assert_eq!(disabled, "disabled DE main\n");
    let list = succeeds(&mut callback(&["list"]));
    assert!(list.starts_with("DE  main  disabled 20"), "{list}");
    let json = succeeds(&mut callback(&["list", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json[0]["disabledSince"].as_str().unwrap().starts_with("20"));
    assert_eq!(
        (&json[0]["callbackId"], &json[0]["lastError"]),
        (&"main".into(), &().into())
    );
    let enabled = succeeds(&mut callback(&["enable", "--country", "DE", "main"]));
    assert_eq!(enabled, "enabled DE main\n");
    assert_eq!(succeeds(&mut callback(&["list"])), active);
    succeeds(&mut callback(&["remove", "--country", "DE", "main"]));
    refuses(
        &mut callback(&["enable", "--country", "DE", "main"]),
        &["DE has no callback subscription main", "efgs callback list"],
    );
}

#[test]
fn refuses_a_busy_port() {
    let installation = Installation::new("DE");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let mut serve = installation.serve();
    serve
        .env("EFGS__LOG__LEVEL", "error")
        .env("EFGS__PUBLIC__LISTEN", &address);
    refuses(&mut serve, &[&address, "[public] listen"]);
}

#[test]
fn onboards_all_members_of_the_eu_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let made = succeeds(&mut efgs(&["init", "--dir", dir.to_str().unwrap()]));
    assert!(made.contains("for 27 participants"), "{made}");
    let mut list = efgs(&["cert", "list", "--config"]);
    let list = succeeds(list.arg(dir.join("efgs.toml")));
    assert_eq!(list.lines().count(), 81);
}
