#!/bin/bash
# Slurm: a Ray cluster on the nodes of one allocation, and a sweep on it. Edit the lines marked EDIT, then
#
#     sbatch slurm.sh sweep.yaml runs/NAME
#     lldeg status runs/NAME
#
# The run directory must be on a file system that the nodes share. If time runs out, the same command resumes.
#SBATCH --job-name=lldeg
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=lldeg-%j.log

set -euo pipefail

sweep=${1:?usage: sbatch slurm.sh SWEEP.yaml RUN_DIR}
run_dir=${2:?usage: sbatch slurm.sh SWEEP.yaml RUN_DIR}

source "$HOME/lldeg/bin/activate" # EDIT: an environment with lldeg[gpu] that all nodes see
export RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token # keeps other users of these nodes out of the cluster
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from sbatch

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000)) # differs from those of other jobs on the node
own=/tmp/lldeg-$SLURM_JOB_ID # everybody may write to Ray's folder, so it lies in one that is private
srun --ntasks-per-node=1 bash -c 'mkdir --mode=700 "$0" || test -O "$0"' "$own"
temp_dir=$own/ray
limits=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --block --node-ip-address="$head_ip" \
    --port="$port" --include-dashboard=false --temp-dir="$temp_dir" "${limits[@]}" &
until ray status --address="$head_ip:$port" > /dev/null 2>&1; do sleep 2; done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        ray start --block --address="$head_ip:$port" "${limits[@]}" &
fi

trap 'lldeg stop "$run_dir" || true' TERM # Slurm's warning: stop cleanly
lldeg submit "$sweep" --address "$head_ip:$port" --run-dir "$run_dir" &
submit=$!
status=0
wait "$submit" || status=$?
if ((status > 128)); then # the warning ended the wait, not the sweep
    status=0
    wait "$submit" || status=$?
fi
exit "$status"
