#!/usr/bin/env bash
# Start a throw-away *real* Slurm cluster on this one machine (Debian 12, root):
# munged + mariadbd + slurmdbd + slurmctld + one slurmd per pretended node.
#
#   bash start_slurm.sh      # installs what is missing, starts, waits for idle nodes
#   bash start_slurm.sh node 2   # starts the daemon of node 2 again, after somebody has killed it
#   bash stop_slurm.sh       # ends what this script started, nothing else
#
# Safe to rerun: a healthy cluster is left as it is, a half-dead one is stopped and
# started afresh.  No systemd, no cgroups, no stdin; the daemons keep no inherited
# file descriptor, so a CI step that waits for its stdout to close is not held up.
#
# Settings, all optional, from the environment:
#   SLURM_CI_DIR     where everything lives        (default /var/tmp/slurm-ci)
#   SLURM_CI_NODES   how many nodes                (default 2: node1 node2)
#   SLURM_CI_CPUS    CPUs each node declares       (default 4, whatever the machine has)
#   SLURM_CI_MEM_MB  memory each node declares     (default 8192)
#   SLURM_CI_GPUS    pretended GPUs on each node   (default 2; 0 for none)
#   SLURM_CI_EXTRA   more slurm.conf lines, e.g. "TaskPlugin=task/affinity" (a later line wins)
#   SLURM_CI_NET     netns | loopback | auto       (default auto: netns where permitted)
#     netns     every node has its own network + UTS namespace: own hostname, own IP,
#               own loopback, so a rank that dials "localhost" fails as on a cluster
#     loopback  all nodes on 127.0.0.1, different ports (own hostname where permitted)
set -Eeuo pipefail

DIR=${SLURM_CI_DIR:-/var/tmp/slurm-ci}
NODES=${SLURM_CI_NODES:-2}
CPUS=${SLURM_CI_CPUS:-4}
MEM_MB=${SLURM_CI_MEM_MB:-8192}
GPUS=${SLURM_CI_GPUS:-2}
NET=${SLURM_CI_NET:-auto}
PORT=${SLURM_CI_PORT:-16817}         # slurmctld; +2 slurmdbd; +10+i slurmd
SUBNET=${SLURM_CI_SUBNET:-10.213.77} # only used by netns
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CONF=$DIR/etc/slurm.conf
MARK='# slurm-ci'
SELF=$(uname -n); SELF=${SELF%%.*}
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C

say() { echo "[slurm-ci] $*"; }
die() {
    say "FAILED: $*" >&2
    for f in "$DIR"/log/*; do
        [ -s "$f" ] && { echo "--- tail of $f"; tail -n 15 "$f"; } >&2
    done
    stop >&2 || true
    exit 1
}
stop() { SLURM_CI_DIR=$DIR SLURM_CI_LOCKED=1 bash "$HERE/stop_slurm.sh" </dev/null 9>&-; }

[ "$(id -u)" = 0 ] || { say "must run as root" >&2; exit 1; }
[ "${#DIR}" -le 80 ] || { say "SLURM_CI_DIR is too long for unix socket paths" >&2; exit 1; }
mkdir -p "$DIR"/{etc,log,run,state,spool,munge,dev}
chmod 755 "$DIR" "$DIR/munge"        # munged refuses a socket dir others cannot enter

exec 9>"$DIR/lock"                   # one starter at a time (daemons do not inherit fd 9)
flock -w 300 9 || { say "another start_slurm.sh or stop_slurm.sh holds $DIR/lock" >&2; exit 1; }
trap 'die "line $LINENO: $BASH_COMMAND"' ERR

# ---- helpers ----------------------------------------------------------------------------
# A pid counts as ours only while it is alive (a zombie is not: PID 1 may reap late, so
# `kill -0` lies) and carries our marker in its environment (so a recycled pid is not).
ours() {
    local pid=$1 st
    [ -n "$pid" ] && [ -r "/proc/$pid/stat" ] || return 1
    st=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) || return 1
    [ "$st" != Z ] && [ "$st" != X ] || return 1
    { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | grep -qx "SLURM_CI_DAEMON_OF=$DIR"
}
up() { ours "$(cat "$DIR/run/$1.pid" 2>/dev/null)"; }

# Start a daemon with a clean environment, no stdin, its own log, every other fd closed.
# The & is on the subshell itself, which exec then replaces: a function in the background
# would leave a bash that holds our stdout for as long as the daemon lives.
spawn() {
    local log=$DIR/log/$1.out; shift
    (
        trap - ERR
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -gt 2 ] && [ "$fd" != 255 ] && eval "exec $fd>&-" 2>/dev/null
        done || true
        cd "$DIR"
        exec env -i PATH="$PATH" HOME=/root LC_ALL=C SLURM_CI_DAEMON_OF="$DIR" SLURM_CONF="$CONF" \
            MARIADB_UNIX_PORT="$DIR/run/mariadb.sock" MYSQL_UNIX_PORT="$DIR/run/mariadb.sock" \
            setsid "$@" </dev/null >>"$log" 2>&1
    ) &
    disown
}
start_node() {  # the daemon of node N, in its own network and with its own host name
    local i=$1 cmd
    mkdir -p "$DIR/spool/node$i"
    cmd=(slurmd -N "node$i" -f "$CONF")
    [ "$UTS" = 0 ] || cmd=(unshare --uts sh -c "hostname node$i && exec \"\$@\"" sh "${cmd[@]}")
    [ "$NET" != netns ] || cmd=(nsenter "--net=/run/netns/slurmci-node$i" "${cmd[@]}")
    spawn "slurmd-node$i" "${cmd[@]}"
}
wait_for() {  # wait_for SECONDS WHAT COMMAND...
    local end=$(( SECONDS + $1 )) what=$2; shift 2
    until "$@" </dev/null >/dev/null 2>&1 9>&-; do
        [ "$SECONDS" -lt "$end" ] || die "$what did not come up"
        sleep 0.2
    done
}
idle_nodes() { SLURM_CONF=$CONF timeout 10 sinfo -h -N -o '%N %t' 2>/dev/null | awk '$2 ~ /^(idle|mix|alloc)$/' | sort -u | wc -l; }
settings="$(cksum <"${BASH_SOURCE[0]}") $NODES $CPUS $MEM_MB $GPUS $NET $PORT $SUBNET ${SLURM_CI_EXTRA:-}"
healthy() {
    local d
    [ "$(cat "$DIR/run/settings" 2>/dev/null)" = "$settings" ] || return 1
    for d in munged mariadbd slurmdbd slurmctld $(seq -f 'slurmd-node%g' "$NODES"); do up "$d" || return 1; done
    [ "$(idle_nodes)" = "$NODES" ]
}
finish() {
    say "up: $(SLURM_CONF=$CONF sinfo -h -o '%P %D %t %N' | tr '\n' ';') net=$(cat "$DIR/run/net") in ${SECONDS}s"
    say "export SLURM_CONF=$CONF   # needed only where /etc/slurm/slurm.conf is not ours"
    exit 0
}

# ---- packages ---------------------------------------------------------------------------
need=()
for p in munge slurmctld slurmd slurm-client slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core iproute2; do
    dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || need+=("$p")
done
if [ ${#need[@]} -gt 0 ]; then
    say "installing: ${need[*]}"
    policy=                              # keep the packages from starting their own daemons
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt="apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=180 -o Dpkg::Use-Pty=0"
    { $apt update && $apt install -y --no-install-recommends "${need[@]}"; } </dev/null >"$DIR/log/apt.out" 2>&1 9>&- \
        || { [ -z "$policy" ] || rm -f $policy; die "apt-get (see $DIR/log/apt.out)"; }
    [ -z "$policy" ] || rm -f $policy
    say "installed after ${SECONDS}s"
fi

if healthy; then say "already running"; finish; fi
if [ "${1:-}" = node ]; then         # only the daemon of one node, in a cluster that runs otherwise
    NET=$(cat "$DIR/run/net"); UTS=1; unshare --uts true 2>/dev/null || UTS=0
    start_node "$2"
    wait_for 60 "node $2" healthy
    finish
fi
stop >/dev/null                      # whatever is left of an earlier one, or has other settings
rm -rf "$DIR"/{state,spool,run,db,dev,log}
mkdir -p "$DIR"/{state,spool,run,dev,log}
echo "$settings" >"$DIR/run/settings"

# ---- network ----------------------------------------------------------------------------
have_netns() {
    ip netns add slurmci-probe 2>/dev/null || return 1
    ip netns del slurmci-probe
    ip link add slurmci-p0 type veth peer name slurmci-p1 2>/dev/null || return 1
    ip link del slurmci-p0
    ip link add slurmci-br0 type bridge 2>/dev/null || return 1
    ip link del slurmci-br0
}
[ "$NET" != auto ] || { if have_netns; then NET=netns; else NET=loopback; fi; }
UTS=1; unshare --uts true 2>/dev/null || UTS=0
echo "$NET" >"$DIR/run/net"
hosts=()
if [ "$NET" = netns ]; then
    CTLADDR=$SUBNET.1
    ip link add slurmci-br0 type bridge
    ip addr add "$SUBNET.1/24" dev slurmci-br0
    ip link set slurmci-br0 up
    for i in $(seq "$NODES"); do
        ip netns add "slurmci-node$i"
        ip link add "slurmci-v$i" type veth peer name eth0 netns "slurmci-node$i"
        ip link set "slurmci-v$i" master slurmci-br0 up
        ip -n "slurmci-node$i" addr add "$SUBNET.$((10 + i))/24" dev eth0
        ip -n "slurmci-node$i" link set lo up
        ip -n "slurmci-node$i" link set eth0 up
        hosts+=("$SUBNET.$((10 + i)) node$i $MARK")
    done
else
    CTLADDR=127.0.0.1
    for i in $(seq "$NODES"); do hosts+=("127.0.0.1 node$i $MARK"); done
fi
getent hosts "$(uname -n)" >/dev/null || hosts+=("127.0.0.1 $(uname -n) $MARK")   # gloo looks itself up
# Node names must resolve (MASTER_ADDR is a node name).  Rewrite in place: /etc/hosts is
# often a bind mount, which `sed -i` cannot replace.
keep=$(grep -v "$MARK\$" /etc/hosts || true)
{ printf '%s\n' "$keep"; printf '%s\n' "${hosts[@]}"; } >"$DIR/run/hosts.new"
cat "$DIR/run/hosts.new" >/etc/hosts

# ---- configuration ----------------------------------------------------------------------
range="node[1-$NODES]"; [ "$NODES" -gt 1 ] || range=node1
gres_types=; node_gres=; : >"$DIR/etc/gres.conf"
if [ "$GPUS" -gt 0 ]; then   # Slurm asks only that a GPU's file is a device, so /dev/null will do
    for g in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$DIR/dev/gpu$g"; done
    files="gpu[0-$((GPUS - 1))]"; [ "$GPUS" -gt 1 ] || files=gpu0
    echo "NodeName=$range Name=gpu File=$DIR/dev/$files" >"$DIR/etc/gres.conf"
    gres_types="GresTypes=gpu"; node_gres="Gres=gpu:$GPUS"
fi
{
cat <<EOF
ClusterName=ci
SlurmctldHost=$SELF($CTLADDR)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job must wait (default 120 s)
AuthInfo=socket=$DIR/munge/munge.sock,cred_expire=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
MpiDefault=none
# nothing here needs cgroups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# declared sizes win over what slurmd finds, so two 4-CPU nodes fit on a 2-core machine
SlurmdParameters=config_overrides
ReturnToService=2
# refuse at submission what no partition could ever run
EnforcePartLimits=ALL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=$(( MEM_MB / CPUS ))
$gres_types
# submitit reads job states from sacct: without slurmdbd a killed job never looks ended
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 2))
# clients of slurmdbd do not read AuthInfo: this is where they look for another munge socket
AccountingStoragePass=$DIR/munge/munge.sock
# preemption as submitit wants it: the job's own --signal (USR2) first, then requeue
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
# quick turn-round, for tests
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
# between scancel's SIGTERM and SIGKILL: long enough to save
KillWait=15
# a node whose daemon is silent for this long is down
SlurmdTimeout=15
MinJobAge=600
InactiveLimit=0
# job ids that a restarted cluster does not give out again: a stale job folder would
# otherwise be taken for the new job's result
FirstJobId=$(( $(date +%s) % 50000000 + 1000 ))
EOF
for i in $(seq "$NODES"); do
    addr=127.0.0.1; [ "$NET" != netns ] || addr=$SUBNET.$((10 + i))
    host=node$i; [ "$UTS" = 1 ] || host=$SELF
    echo "NodeName=node$i NodeHostname=$host NodeAddr=$addr Port=$((PORT + 10 + i)) Sockets=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM_MB $node_gres State=UNKNOWN"
done
cat <<EOF
PartitionName=debug Nodes=$range Default=YES MaxTime=INFINITE State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=scavenge Nodes=$range MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=priority Nodes=$range MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
${SLURM_CI_EXTRA:-}
EOF
} >"$CONF"
cat >"$DIR/etc/slurmdbd.conf" <<EOF
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=root
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
EOF
chmod 600 "$DIR/etc/slurmdbd.conf"
mkdir -p /etc/slurm
if [ ! -e /etc/slurm/slurm.conf ] || [ "$(readlink /etc/slurm/slurm.conf)" = "$CONF" ]; then
    ln -sfn "$CONF" /etc/slurm/slurm.conf
fi
export SLURM_CONF=$CONF

# ---- daemons ----------------------------------------------------------------------------
if [ ! -s "$DIR/munge/munge.key" ]; then
    ( umask 077; head -c 1024 /dev/urandom >"$DIR/munge/munge.key" )
fi
chown root:root "$DIR/munge" "$DIR/munge/munge.key"; chmod 600 "$DIR/munge/munge.key"
spawn munged munged --key-file="$DIR/munge/munge.key" --socket="$DIR/munge/munge.sock" --force \
    --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/munged.seed"

mariadb-install-db --no-defaults --user=root --datadir="$DIR/db" --skip-test-db --skip-name-resolve \
    --auth-root-authentication-method=normal --innodb-log-file-size=16M \
    </dev/null >"$DIR/log/mariadb-install-db.out" 2>&1 9>&- || die "mariadb-install-db"
# reachable through its unix socket only, in a directory only root enters
chmod 700 "$DIR/db" "$DIR/run"
spawn mariadbd mariadbd --no-defaults --user=root --datadir="$DIR/db" --skip-networking --skip-log-bin \
    --socket="$DIR/run/mariadb.sock" --pid-file="$DIR/run/mariadbd.pid" --skip-name-resolve \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --performance-schema=OFF
wait_for 30 munged munge --socket="$DIR/munge/munge.sock" -n
wait_for 60 mariadbd mariadb --no-defaults --socket="$DIR/run/mariadb.sock" -uroot -e 'select 1'
spawn slurmdbd slurmdbd
wait_for 60 slurmdbd timeout 10 sacctmgr -n show cluster
timeout 20 sacctmgr -i add cluster ci </dev/null >"$DIR/log/sacctmgr.out" 2>&1 || true
spawn slurmctld slurmctld -f "$CONF" -c
for i in $(seq "$NODES"); do start_node "$i"; done
wait_for 90 "all $NODES nodes" healthy
finish
