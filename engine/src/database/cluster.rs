//! Clusters: whether a server is a member that may be written to.

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// MariaDB or Percona with Galera.
    Galera,
    /// MySQL with Group Replication.
    GroupReplication,
}

impl Cluster {
    /// As it is remembered.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Galera => "galera",
            Self::GroupReplication => "group replication",
        }
    }

    /// The cluster of a name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let known = [Self::Galera, Self::GroupReplication];
        known
            .into_iter()
            .find(|cluster| cluster.name().as_bytes() == name)
    }
}

/// Whether a server can serve gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// It gives its state to another node, and answers slowly at best.
    Donor,
    /// Nothing is to be stored there, and why.
    Unfit(String),
}

pub(super) const NO_MEMBER: &str =
    "the server is no ONLINE member of a replication group with a quorum";
const HIDDEN_GROUP: &str = "the server is set up for group replication, and the account may not see \
     whether it is a member: grant it SELECT on performance_schema.replication_group_members";

/// What a server says of itself.
#[derive(Debug, Default)]
pub(super) struct ServerReport {
    pub(super) galera: Option<GaleraNode>,
    pub(super) group: Option<GroupMember>,
    /// It is set up for a group, and does not let the account see its state there.
    pub(super) hides_its_group: bool,
    pub(super) is_read_only: bool,
}

/// A Galera node's own state.
#[derive(Debug, Default)]
pub(super) struct GaleraNode {
    pub(super) is_ready: bool,
    pub(super) is_primary: bool,
    /// Synced is 4, a donor 2.
    pub(super) local_state: Option<u32>,
}

/// A member of a replication group as it sees the group.
#[derive(Debug)]
pub(super) struct GroupMember {
    pub(super) state: String,
    pub(super) member_count: u64,
    /// Those that it reaches.
    pub(super) reachable_count: u64,
}

impl ServerReport {
    /// The cluster that it belongs to, in whatever state.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        let galera = self.galera.as_ref().map(|_| Cluster::Galera);
        galera.or_else(|| self.group.as_ref().map(|_| Cluster::GroupReplication))
    }

    /// Its standing, if the database is known to be `cluster`.
    pub(super) fn standing(&self, is_one_of_several: bool, cluster: Option<Cluster>) -> Standing {
        if self.hides_its_group {
            return unfit(HIDDEN_GROUP);
        }
        if let Some(known) = cluster
            && self.cluster() != Some(known)
        {
            return unfit("the server does not belong to the cluster that the database is");
        }
        if let Some(node) = &self.galera
            && !(node.is_ready && node.is_primary)
        {
            return unfit("the node is not ready, or not in the primary component of its cluster");
        }
        if let Some(member) = &self.group
            && !member.may_write()
        {
            return unfit(NO_MEMBER);
        }
        // A single server says so itself when it is written to.
        if is_one_of_several && self.is_read_only {
            return unfit("the server is read-only");
        }
        match &self.galera {
            Some(node) if node.local_state != Some(4) => Standing::Donor,
            _ => Standing::Good,
        }
    }
}

impl GroupMember {
    pub(super) fn may_write(&self) -> bool {
        self.state == "ONLINE" && self.reachable_count * 2 > self.member_count
    }
}

fn unfit(why: &str) -> Standing {
    Standing::Unfit(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn galera(is_ready: bool, is_primary: bool, local_state: u32) -> ServerReport {
        ServerReport {
            galera: Some(GaleraNode {
                is_ready,
                is_primary,
                local_state: Some(local_state),
            }),
            ..ServerReport::default()
        }
    }

    fn group(state: &str, member_count: u64, reachable_count: u64) -> ServerReport {
        ServerReport {
            group: Some(GroupMember {
                state: state.to_owned(),
                member_count,
                reachable_count,
            }),
            ..ServerReport::default()
        }
    }

    #[test]
    fn takes_members_with_a_quorum_only() {
        let is_unfit = |report: &ServerReport, cluster| {
            matches!(report.standing(true, cluster), Standing::Unfit(_))
        };
        assert_eq!(galera(true, true, 4).standing(true, None), Standing::Good);
        assert_eq!(galera(true, true, 2).standing(true, None), Standing::Donor);
        assert!(is_unfit(&galera(false, true, 4), None));
        assert!(is_unfit(&galera(true, false, 4), None));
        assert!(!is_unfit(&group("ONLINE", 3, 2), None));
        assert!(is_unfit(&group("ONLINE", 4, 2), None), "half is no quorum");
        assert!(is_unfit(&group("ERROR", 1, 1), None));
        let alone = ServerReport::default();
        assert_eq!(alone.standing(true, None), Standing::Good);
        assert!(is_unfit(&alone, Some(Cluster::Galera)));
        assert!(is_unfit(&alone, Some(Cluster::GroupReplication)));
        assert!(!is_unfit(&galera(true, true, 4), Some(Cluster::Galera)));
        let hidden = ServerReport {
            hides_its_group: true,
            ..ServerReport::default()
        };
        assert!(is_unfit(&hidden, None));
        let read_only = ServerReport {
            is_read_only: true,
            ..ServerReport::default()
        };
        assert!(is_unfit(&read_only, None));
        assert_eq!(read_only.standing(false, None), Standing::Good);
    }

    #[test]
    fn remembers_a_cluster_by_its_name() {
        for cluster in [Cluster::Galera, Cluster::GroupReplication] {
            assert_eq!(Cluster::named(cluster.name().as_bytes()), Some(cluster));
        }
        assert_eq!(Cluster::named(b"other"), None);
    }
}
