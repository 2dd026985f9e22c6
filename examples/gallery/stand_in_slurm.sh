#!/bin/bash
# Stands in for SLURM on one machine, under the name by which it is called. sbatch runs the tasks of a job in the
# background, all at once, when the job before has ended; squeue lists what waits and runs.
cd "$(dirname "$0")" || exit
mkdir -p queue
case ${0##*/} in
sbatch)
    script=${!#}
    for word; do
        case $word in --output=*) log=${word#*=} ;; esac
    done
    echo "$script" >>submitted
    number=$(wc -l <submitted)
    range=$(sed -n 's/^#SBATCH --array=//p' "$script") # as 1-3; a job without tasks has none
    jobs=("$number")
    if [ -n "$range" ]; then
        mapfile -t jobs < <(seq -f "${number}_%g" "${range%-*}" "${range#*-}")
    fi
    for job in "${jobs[@]}"; do echo PENDING >"queue/$job"; done
    (
        while compgen -G "queue/$((number - 1))*" >/dev/null; do sleep 0.2; done
        for job in "${jobs[@]}"; do
            echo RUNNING >"queue/$job"
            task=${job#*_}
            (
                SLURM_JOB_ID=$number SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task \
                    bash "$script" >"${log/\%a/$task}" 2>&1
                rm "queue/$job"
            ) &
        done
        wait
    ) </dev/null >/dev/null 2>&1 &
    echo "$number"
    ;;
squeue)
    for file in queue/*; do
        if [ -e "$file" ]; then
            number=${file##*/}
            name=$(sed -n 's/^#SBATCH --job-name=//p' "$(sed -n "${number%_*}p" submitted)")
            echo "$number|$(cat "$file")|$name"
        fi
    done
    ;;
scontrol) echo "MaxArraySize = 1001" ;;
esac
