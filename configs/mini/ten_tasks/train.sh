#!/usr/bin/env bash
# The next `mini`, from nothing to its table of figures: corpora, text vocabulary, codec, records, language model, figures.
#
#   bash configs/mini/ten_tasks/train.sh                  # all of it, in this order; a stopped run goes on where it was
#   bash configs/mini/ten_tasks/train.sh records lm       # some stages
#
# Settings, from the environment: SCALE of the corpora (1; 0.01 rehearses), JOBS made at once (2),
# CODEC and LM (more flags of the two trainings). A GPU lent for a quarter of an hour: README.md beside this file.
# Debian: apt-get install flite espeak-ng wordnet-base
set -euo pipefail

OUT=out/ten SCALE=${SCALE:-1} JOBS=${JOBS:-2} CODEC=${CODEC:-} LM=${LM:-} PYTHON=${PYTHON:-python}
HERE=$(dirname "${BASH_SOURCE[0]}")
unitok() { "$PYTHON" -m unitok "$@"; }
export -f unitok
export OUT SCALE PYTHON # for the shells of `each`

# name, items, options of `unitok synth`; _heldout is never trained on.
CORPORA="
wn_a 6000 --sentences wordnet --seed 3 --rate 0.9,1.15 --pitch 0.9,1.12
wn_b 6000 --sentences wordnet --seed 13 --rate 0.9,1.15 --pitch 0.9,1.12
wn_c 6000 --sentences wordnet --seed 23 --rate 0.9,1.15 --pitch 0.9,1.12
wn_d 6000 --sentences wordnet --seed 33 --rate 0.9,1.15 --pitch 0.9,1.12
wn_heldout 400 --sentences wordnet --seed 3 --split held_out
gr 8000 --seed 1
gr_heldout 120 --seed 777 --split held_out
wne 3000 --sentences wordnet --seed 8 --voices en-us,en-gb,en-us+f3,en-us+m3,en-gb+f2,en-gb+m7
tr_a 4000 --corpus translation --seed 6
tr_b 4000 --corpus translation --seed 16
tr_c 4000 --corpus translation --seed 26
tr_heldout 300 --corpus translation --seed 7 --split held_out
snd_a 5000 --corpus sounds --seed 4
snd_b 5000 --corpus sounds --seed 14
snd_heldout 300 --corpus sounds --seed 5 --split held_out
nz 4000 --sentences wordnet --seed 9 --noisy
nz_heldout 100 --sentences wordnet --seed 10 --noisy --split held_out
tones 6000 --corpus tones --seed 11
"

each() { # run a function on each line of standard input, JOBS at a time
  export -f "${1?}"
  xargs -P "$JOBS" -I '{}' bash -euo pipefail -c "$1 {}"
}

speak() {
  local name=$1 items=$2
  shift 2
  items=$(awk -v n="$items" -v s="$SCALE" 'BEGIN {n = int(n * s); print n < 24 ? 24 : n}')
  unitok synth --out "$OUT/corpus/$name" --utterances "$items" "$@"
}

record() {
  local name=$1 fields=audio
  [[ $name == tr_* ]] && fields=audio,target_audio
  [[ $name == nz* ]] && fields=audio,noisy_audio
  unitok prepare --manifest "$OUT/corpus/$name/manifest.jsonl" --tokenizer "$OUT/codec/tokenizer" --out "$OUT/shards/$name" --audio-fields "$fields"
}

manifests() { for name in "$@"; do echo "$OUT/corpus/$name/manifest.jsonl"; done; }

resumed() { [[ -f $1 ]] && echo "--ckpt_path=$1" || true; }

stage_corpora() {
  sed '/^$/d' <<<"$CORPORA" | each speak
  unitok leakage --train $(manifests wn_a wn_b wn_c wn_d gr wne tr_a tr_b tr_c snd_a snd_b nz) \
    --held-out $(manifests wn_heldout gr_heldout tr_heldout snd_heldout nz_heldout)
}

stage_text() {
  [[ -d $OUT/text ]] || unitok train-tokenizer --manifest $(manifests wn_a gr tr_a snd_a) --text-fields text,target_text,caption --size 448 --out "$OUT/text"
}

stage_codec() {
  unitok fit --config "$HERE/codec.yaml" $(resumed "$OUT/codec/checkpoints/last.ckpt") $CODEC
}

stage_records() {
  awk 'NF && $1 != "tones" {print $1}' <<<"$CORPORA" | each record
}

stage_lm() {
  unitok fit --config "$HERE/lm.yaml" $(resumed "$OUT/lm/checkpoints/last.ckpt") $LM
}

stage_figures() {
  "$PYTHON" benchmarks/mini_quality.py --model "$OUT/mini" --out "$OUT/quality"
}

for stage in "${@:-corpora text codec records lm figures}"; do
  for one in $stage; do
    echo "== $one, $(date +%T)" >&2
    "stage_$one"
  done
done
