#!/usr/bin/env bash
# Teach a trained `mini` more tasks, on its own codec and text tokenizer: corpora, records, language model, figures.
#
#   bash configs/mini/more_tasks/train.sh                  # all of it, in this order; a stopped run goes on where it was
#   bash configs/mini/more_tasks/train.sh records lm       # some stages
#   bash configs/mini/more_tasks/train.sh said             # after corpora and records: `tts` from words as they are said, said_speech.yaml and said.yaml
#   bash configs/mini/more_tasks/train.sh words bilingual  # after them: words for `asr` to weigh, Spanish beside English, bilingual.yaml
#   bash configs/mini/more_tasks/train.sh every_task       # after them: 37 tasks, every_task.yaml
#
# Settings, from the environment: SCALE of the corpora (1; 0.01 rehearses), JOBS made at once (2), LM (more flags of the training).
# Debian: apt-get install flite espeak-ng wordnet-base wamerican
set -euo pipefail

OUT=out/more SCALE=${SCALE:-1} JOBS=${JOBS:-2} LM=${LM:-} PYTHON=${PYTHON:-python}
HERE=$(dirname "${BASH_SOURCE[0]}")
unitok() { "$PYTHON" -m unitok "$@"; }
export -f unitok
export OUT SCALE PYTHON # for the shells of `each`

# name, items to train on, items held out, audio fields (-: none), options of `unitok synth`
CORPORA="
grammar 12000 100 audio --seed 41
wordnet 36000 100 audio --sentences wordnet --seed 42 --rate 0.9,1.15 --pitch 0.9,1.12
translation 9000 200 audio,target_audio --corpus translation --seed 43
pairs 60000 200 - --corpus translation --text-only --seed 53
sounds 3000 200 audio --corpus sounds --seed 44
questions 3000 200 audio,mixture_audio,edited_audio --corpus questions --seed 45
languages 1500 200 audio --corpus languages --seed 46
styles 1200 200 audio,source_audio,other_audio --corpus styles --seed 47
commands 2000 200 audio --corpus commands --seed 48
dialogues 1000 200 audio,answer_audio --corpus dialogues --seed 49
mixtures 1600 100 audio,mixture_audio,first_audio,second_audio,noise_audio,noisy_audio,reverberant_audio,enrolment_audio --corpus mixtures --seed 50
melodies 1500 100 audio,melody_audio --corpus melodies --seed 51
songs 1500 100 audio --corpus songs --seed 52
"

each() { # run a function on each corpus and split, JOBS at a time
  export -f "${1?}"
  awk 'NF {n = $1; t = $2; h = $3; f = $4; $1 = $2 = $3 = $4 = ""; print n, t, "train", f, $0; print n, h, "held_out", f, $0}' <<<"$CORPORA" \
    | xargs -P "$JOBS" -I '{}' bash -euo pipefail -c "$1 {}"
}

speak() {
  local name=$1 items=$2 split=$3
  shift 4
  items=$(awk -v n="$items" -v s="$SCALE" 'BEGIN {n = int(n * s); print n < 24 ? 24 : n}')
  unitok synth --out "$OUT/corpus/$split/$name" --split "$split" --utterances "$items" --workers 1 "$@"
}

record() {
  local name=$1 split=$3 fields=$4
  unitok prepare --manifest "$OUT/corpus/$split/$name/manifest.jsonl" --tokenizer unitok/checkpoints/mini/tokenizers/audio --out "$OUT/shards/$split/$name" --audio-fields "${fields#-}"
}

stage_corpora() {
  each speak
  unitok leakage --train "$OUT"/corpus/train/*/manifest.jsonl --held-out "$OUT"/corpus/held_out/*/manifest.jsonl
}

stage_records() { each record; }

stage_lm() {
  local last=$OUT/lm/checkpoints/last.ckpt
  unitok fit --config "$HERE/lm.yaml" $([[ -f $last ]] && echo "--ckpt_path=$last") $LM
}

stage_figures() {
  "$PYTHON" benchmarks/task_table.py --model "$OUT/mini" --corpora "$OUT/corpus/held_out" --out "$OUT/table"
}

stage_said() {
  local part last
  [[ -f $OUT/lexicon.tsv ]] || unitok lexicon --words /usr/share/dict/words --out "$OUT/lexicon.tsv"
  for part in said_speech said; do
    last=$OUT/${part}_lm/checkpoints/last.ckpt
    unitok fit --config "$HERE/lm.yaml" --config "$HERE/$part.yaml" $([[ -f $last ]] && echo "--ckpt_path=$last") $LM
  done
}

stage_words() {
  sed -n '/^[^ ]/{s/[^|]*| *//; s/"[^"]*"//g; p}' /usr/share/wordnet/data.* >"$OUT/definitions.txt" # without the examples, some of which are held out
  unitok words --texts "$OUT/definitions.txt" --manifest "$OUT"/corpus/train/{wordnet,grammar}/manifest.jsonl --out "$OUT/words.tsv.xz"
}

stage_bilingual() {
  local last=$OUT/bilingual_lm/checkpoints/last.ckpt
  unitok fit --config "$HERE/lm.yaml" --config "$HERE/bilingual.yaml" $([[ -f $last ]] && echo "--ckpt_path=$last") $LM
}

stage_every_task() {
  local last=$OUT/every_lm/checkpoints/last.ckpt
  unitok fit --config "$HERE/lm.yaml" --config "$HERE/every_task.yaml" $([[ -f $last ]] && echo "--ckpt_path=$last") $LM
  "$PYTHON" benchmarks/task_table.py --model "$OUT/every" --corpora "$OUT/corpus/held_out" --out "$OUT/every_table"
}

for stage in "${@:-corpora records lm figures}"; do
  for one in $stage; do
    echo "== $one, $(date +%T)" >&2
    "stage_$one"
  done
done
