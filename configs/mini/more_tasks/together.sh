#!/usr/bin/env bash
# Three tasks, each learned alone and all learned together, by as many positions of each: which is better?
#
#   bash configs/mini/more_tasks/together.sh        # after the stages corpora and records of train.sh
#
# FROM is what each begins with; the published figures are from the `mini` of commit 42f9ea5, which knew none of the three.
#
# Settings, from the environment: STEPS of a task alone (100), ITEMS to measure (200).
set -euo pipefail

OUT=out/more FROM=${FROM:-mini} STEPS=${STEPS:-100} ITEMS=${ITEMS:-200} PYTHON=${PYTHON:-python}
HERE=$(dirname "${BASH_SOURCE[0]}")
# A sequence of each has 124, 156 and 74 positions on average: by these weights each gets as many positions.
AAC='{task: aac, weight: 0.81, data: sounds, loss_weight: 3.0}'
AQA='{task: aqa, weight: 0.64, data: questions, loss_weight: 3.0}'
SLU='{task: slu, weight: 1.36, data: commands, loss_weight: 3.0}'

learn() { # name, steps, tasks, their data
  "$PYTHON" -m unitok fit --config "$HERE/lm.yaml" --model.init_args.init_from="$FROM" --model.init_args.tasks="$3" --model.init_args.langs=[] --data.init_args.tasks="$4" \
    --model.init_args.schedule.warmup_steps=20 --trainer.max_steps="$2" --trainer.val_check_interval="$2" \
    --trainer.default_root_dir="$OUT/together/$1_lm" --trainer.callbacks.init_args.dirpath="$OUT/together/$1"
  "$PYTHON" benchmarks/task_table.py --model "$OUT/together/$1" --corpora "$OUT/corpus/held_out" --items "$ITEMS" \
    --tasks $(tr -d '[],' <<<"${3//,/ }") --out "$OUT/together/$1_table"
}

learn aac "$STEPS" "[aac]" "[$AAC]"
learn aqa "$STEPS" "[aqa]" "[$AQA]"
learn slu "$STEPS" "[slu]" "[$SLU]"
learn all $((3 * STEPS)) "[aac, aqa, slu]" "[$AAC, $AQA, $SLU]"
