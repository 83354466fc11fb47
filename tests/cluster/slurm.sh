#!/usr/bin/env bash
# Slurm on one machine, for tests: of root, on the loopback, in a folder of its own.
#
#   tests/cluster/slurm.sh start FOLDER    # then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/cluster/slurm.sh stop FOLDER
#
# Needs Debian's packages slurm-wlm and munge. Two such clusters at a time need two SLURM_PORT
# (default 26817; the next number is taken, too).
set -euo pipefail
command=${1:?start or stop} folder=${2:?a folder}
port=${SLURM_PORT:-26817}

write_configuration() {
    mkdir -p "$folder"/{state,spool}
    # munged wants folders that only their owner writes to, which /tmp is not: hence --force below.
    chmod 711 "$folder"
    head -c 64 /dev/urandom >"$folder/munge.key"
    chmod 400 "$folder/munge.key"
    cat >"$folder/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
# hordet takes torch's port from the job's number: two clusters must not number their jobs alike.
FirstJobId=$((port * 10))
SlurmUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
AuthType=auth/munge
CredType=cred/munge
# How long a requeued job waits until it may start again.
AuthInfo=socket=$folder/munge.socket,cred_expire=10
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,batch_sched_delay=1
ReturnToService=2
KillWait=30
# More processors than there may be: the tests' processes wait more than they compute.
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
SlurmdParameters=config_overrides
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
END
}

start_daemons() {
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed" 2>>"$folder/munged.log"
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld -f "$SLURM_CONF" -i
    slurmd -f "$SLURM_CONF" -N localhost
    for _ in $(seq 60); do
        if [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ]; then return; fi
        sleep 1
    done
    echo "Slurm did not come up within a minute:" >&2
    tail -n 5 "$folder"/*.log >&2
    exit 1
}

stop_daemons() {
    # Else what a failed test has left goes on without its cluster.
    SLURM_CONF="$folder/slurm.conf" timeout 20 scancel --full --signal=KILL --user="$(id -un)" || true
    for name in slurmd slurmctld munged; do
        file="$folder/$name.pid"
        if [ ! -s "$file" ]; then continue; fi
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    done
}

case $command in
    start)
        folder=$(mkdir -p "$folder" && cd "$folder" && pwd)
        write_configuration
        start_daemons
        ;;
    stop) stop_daemons ;;
    *)
        echo "got $command; allowed are start and stop" >&2
        exit 2
        ;;
esac
