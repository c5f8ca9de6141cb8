//! Checks `[proxy]`, and reads the file that it names.

use std::fs;
use std::net::SocketAddr;

use super::network::Network;
use super::proxy::{Proxy, ProxySecret, ProxySettings, ProxySocket};
use super::source::{SettingsError, Source};

/// Shortest secret, in characters.
const SECRET_CHARACTERS_MIN: usize = 16;

/// Checks the section; nothing if there is neither port nor socket.
pub(super) fn read(
    source: &Source,
    section: Proxy,
) -> Result<Option<ProxySettings>, SettingsError> {
    let (listen, socket) = (section.listen.0, read_socket(source, &section)?);
    if listen.is_none() && socket.is_none() {
        return Ok(None);
    }
    if let Some(listen) = listen {
        check_peers(source, listen, &section.trusted_peers)?;
    }
    let secret = read_secret(source, &section)?;
    if let Some(listen) = listen.filter(|listen| listen.ip().is_loopback())
        && secret.is_none()
    {
        source.warn(format!(
            "every user of this host can connect to [proxy] listen = {listen} and claim any \
             identity: set [proxy] secret_file, or use [proxy] socket instead"
        ));
    }
    Ok(Some(ProxySettings {
        listen,
        socket,
        secret,
        trusted_peers: section.trusted_peers,
        thumbprint_header: section.thumbprint_header,
        distinguished_name_header: section.distinguished_name_header,
        certificate_header: section.certificate_header.0,
    }))
}

fn check_peers(
    source: &Source,
    listen: SocketAddr,
    peers: &[Network],
) -> Result<(), SettingsError> {
    if peers.is_empty() && !listen.ip().is_loopback() {
        let must = "is not a loopback address and [proxy] trusted_peers is empty: list the addresses of your proxies there, since anybody else could claim any identity";
        return Err(source.error("proxy", "listen", must));
    }
    check_networks(source, ("proxy", "trusted_peers"), peers)
}

/// What is believed of a list of proxies is not believed of everybody.
pub(super) fn check_networks(
    source: &Source,
    (section, name): (&str, &str),
    networks: &[Network],
) -> Result<(), SettingsError> {
    let Some(everybody) = networks.iter().find(|network| network.is_everybody()) else {
        return Ok(());
    };
    let claim = match section {
        "public" => "address",
        _ => "identity",
    };
    let must = format!(
        "has {everybody}, which is everybody, and anybody could claim any {claim}: list the addresses of your proxies"
    );
    Err(source.error(section, name, &must))
}

fn read_socket(source: &Source, section: &Proxy) -> Result<Option<ProxySocket>, SettingsError> {
    if section.socket.as_os_str().is_empty() {
        return Ok(None);
    }
    let mut users = Vec::new();
    for name in &section.socket_users {
        let number = user_number(name).ok_or_else(|| {
            let must = format!("names {name}, which /etc/passwd does not have: give its number");
            source.error("proxy", "socket_users", &must)
        })?;
        users.push(number);
    }
    if users.is_empty() {
        users = vec![0, rustix::process::geteuid().as_raw()];
    }
    Ok(Some(ProxySocket {
        path: source.resolve(&section.socket),
        mode: section.socket_mode.0,
        users,
    }))
}

/// The number of a user, by name or number.
fn user_number(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

fn read_secret(source: &Source, section: &Proxy) -> Result<Option<ProxySecret>, SettingsError> {
    let file = &section.secret_file;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = source.read_private(("proxy", "secret_file"), file)?;
    let value = text.trim_end_matches(['\r', '\n']);
    let is_good =
        value.len() >= SECRET_CHARACTERS_MIN && value.bytes().all(|b| b.is_ascii_graphic());
    if !is_good {
        let must = format!(
            "must name a file with a secret of at least {SECRET_CHARACTERS_MIN} visible ASCII \
             characters in one line, as `openssl rand -hex 32` makes it"
        );
        return Err(source.error("proxy", "secret_file", &must));
    }
    Ok(Some(ProxySecret {
        header: section.secret_header.clone(),
        value: value.to_owned(),
    }))
}
