"""Every key of a run: its default, and what it means.

Names are SlowFast's wherever the concept is the same, so that its users and its YAMLs feel at home. `docs/configuration.md` is
generated from this file (`python tools/config_docs.py`), and a test fails when the two differ.
"""

from __future__ import annotations

from mvit_video.config.families import FAMILY_NAMES, FAMILY_SECTIONS
from mvit_video.config.schema import Key, Section

MODEL_NAMES = ("MViT", *FAMILY_NAMES)
_PRECISIONS = ("float32", "bfloat16", "float16")

TOP_KEYS = {
    "OUTPUT_DIR": Key("output", "Folder that receives everything a run writes."),
    "RNG_SEED": Key(0, "Seed of every random choice of a run."),
    "NUM_GPUS": Key(
        -1,
        "Processes on this machine, one per GPU. -1: all visible GPUs, or one CPU process where there are none. "
        "Without GPUs a number above 1 starts as many CPU processes.",
    ),
    "NUM_SHARDS": Key(
        1,
        "Number of machines. Above 1 the launcher (torchrun, Slurm) starts one set of processes on each.",
    ),
    "NUM_THREADS": Key(
        0,
        "torch threads per process; 0: the cores of this machine divided among its processes. On CPU, results have the same "
        "bits only for the same number of threads.",
    ),
    "LOG_PERIOD": Key(10, "Steps between two lines of OUTPUT_DIR/log.jsonl."),
}

SECTIONS: dict[str, Section] = {
    "MODEL": Section(
        "What is trained.",
        {
            "MODEL_NAME": Key(
                "MViT", "Model family; its own section below holds its sizes.", MODEL_NAMES
            ),
            "NUM_CLASSES": Key(
                400, "Classes the head tells apart; labels in the lists are 0 ... NUM_CLASSES - 1."
            ),
            "DROPOUT_RATE": Key(0.5, "Dropout before the head."),
            "ACT_CHECKPOINT": Key(
                False,
                "Recompute the blocks' activations in the backward pass: less memory, about a third more time. TRAIN.MEMORY_BUDGET recomputes no more than it must.",
            ),
            "ACT_CHECKPOINT_STAGES": Key(
                [], "Stages, from 0, whose blocks ACT_CHECKPOINT recomputes. Empty: all."
            ),
            "COMPILE": Key(
                False,
                "Compile each block with torch.compile, for training and testing. Worth its minutes at the start on a GPU.",
            ),
        },
    ),
    "MVIT": Section(
        "MViT v1 and v2 (arXiv 2104.11227, 2112.01526). Lists of [block, ...] name blocks from 0.",
        {
            "MODE": Key(
                "conv",
                "Pooling operator: depthwise convolution shared by the heads, one filter set per head, max or average.",
                ("conv", "conv_unshared", "max", "avg"),
            ),
            "POOL_BACKEND": Key(
                "torch",
                "What computes convolutional pools with their norms on a GPU: torch, or one Triton kernel, whose results differ by rounding. Measure which is faster with tools/benchmark.py pooling --against triton.",
                ("torch", "triton"),
            ),
            "POOL_FIRST": Key(
                False, "Pool before the query, key and value projections instead of after."
            ),
            "CLS_EMBED_ON": Key(True, "Prepend a class token, which the head reads."),
            "PATCH_KERNEL": Key([3, 7, 7], "Kernel of the cube embedding (t, h, w)."),
            "PATCH_STRIDE": Key([2, 4, 4], "Stride of the cube embedding (t, h, w)."),
            "PATCH_PADDING": Key([1, 3, 3], "Padding of the cube embedding (t, h, w)."),
            "EMBED_DIM": Key(96, "Width of the first stage."),
            "NUM_HEADS": Key(1, "Heads of the first stage."),
            "DEPTH": Key(16, "Number of blocks."),
            "MLP_RATIO": Key(4.0, "Hidden width of the MLP over its input width."),
            "QKV_BIAS": Key(True, "Bias in the query, key and value projections."),
            "DROPPATH_RATE": Key(
                0.1, "Stochastic depth of the last block; it grows linearly from 0 at the first."
            ),
            "DROPOUT_RATE": Key(
                0.0, "Dropout after position embedding, attention projection and in the MLP."
            ),
            "DIM_MUL": Key([], "[[block, factor], ...]: where the width changes."),
            "HEAD_MUL": Key([], "[[block, factor], ...]: where the number of heads changes."),
            "POOL_Q_STRIDE": Key(
                [], "[[block, t, h, w], ...]: query pooling; blocks not listed pool no queries."
            ),
            "POOL_KV_STRIDE": Key(
                [], "[[block, t, h, w], ...]: key and value pooling, where it is not adaptive."
            ),
            "POOL_KV_STRIDE_ADAPTIVE": Key(
                [],
                "[t, h, w] of the first block; divided by each query stride on the way. Empty: POOL_KV_STRIDE holds.",
            ),
            "POOL_KVQ_KERNEL": Key(
                [],
                "Kernel of all pooling (t, h, w). Empty: stride + 1 where the stride is above 1, else 1.",
            ),
            "UNPOOLED_KV": Key(
                [],
                "Blocks without key and value pools all the same: [14, 15] in the first published MVIT_B_16x4 weights.",
            ),
            "NORM_STEM": Key(False, "LayerNorm after the position embedding."),
            "SEP_POS_EMBED": Key(False, "Absolute positions as a sum of a space and a time table."),
            "USE_ABS_POS": Key(True, "Absolute position embedding."),
            "REL_POS_SPATIAL": Key(
                False, "Decomposed relative positions in height and width (v2)."
            ),
            "REL_POS_TEMPORAL": Key(False, "Decomposed relative positions in time (v2)."),
            "REL_POS_ZERO_INIT": Key(False, "Start the relative position tables at zero."),
            "RESIDUAL_POOLING": Key(False, "Add the pooled query to the attention's output (v2)."),
            "DIM_MUL_IN_ATT": Key(
                False,
                "Change the width in the attention (v2) instead of in the MLP of the block before (v1).",
            ),
            "SEPARATE_QKV": Key(False, "Three projections instead of one fused."),
            "TEMPORAL_PADDING": Key(
                "zero",
                "What cube embedding and pools read before and after the clip: zeros, or the border frame again.",
                ("zero", "replicate"),
            ),
            "USE_MEAN_POOLING": Key(
                False, "The head reads the mean of the patch tokens, normalised after the mean."
            ),
            "HEAD_INIT_SCALE": Key(
                1.0,
                "Factor on the head's initial weights (0.001 when fine-tuning masked pre-training).",
            ),
            "ZERO_DECAY_POS_CLS": Key(False, "No weight decay on class token and position tables."),
        },
    ),
    **FAMILY_SECTIONS,
    "DATA": Section(
        "Where videos lie and how clips are cut from them.",
        {
            "PATH_TO_DATA_DIR": Key(
                "",
                "Folder with train.csv, val.csv and test.csv (`path label` a line), with SSv2's JSON files, or with folders of images.",
            ),
            "PATH_PREFIX": Key("", "Folder that the paths of the lists are relative to."),
            "CLASS_NAMES": Key(
                "",
                "Names of the classes where the lists' folder has no classes.txt: a shipped list (kinetics400, kinetics600, kinetics700, something_something_v2, imagenet1k, ucf101, hmdb51), or a file with one name a line. A shipped list is left aside where MODEL.NUM_CLASSES is another number.",
            ),
            "READER": Key(
                "decord",
                "Video reader. decord reads the files it is exact on, PyAV the others, whatever is asked for; auto takes the fastest exact one.",
                ("decord", "pyav", "auto"),
            ),
            "DECODE_TIMEOUT": Key(
                120.0,
                "Seconds that decoding one clip, or all views of a test video, may take. A video that takes longer is undecodable. 0: no limit.",
            ),
            "NUM_FRAMES": Key(16, "Frames of a clip."),
            "SAMPLING_RATE": Key(4, "Frames between two frames of a clip, at TARGET_FPS."),
            "SAMPLING": Key(
                "slowfast",
                "Frame numbers of a clip. slowfast: SlowFast's, evenly over the span of NUM_FRAMES x SAMPLING_RATE frames at TARGET_FPS, ends included; stride: exactly every SAMPLING_RATE-th frame of the file. SSv2 takes one frame from each of NUM_FRAMES segments instead.",
                ("slowfast", "stride"),
            ),
            "TARGET_FPS": Key(
                30.0, "Frame rate that SAMPLING_RATE counts in, for SAMPLING slowfast."
            ),
            "TRAIN_JITTER_SCALES": Key(
                [256, 320],
                "Training: short side drawn between these before a random crop. With TRAIN_JITTER_SCALES_RELATIVE set, only its first value counts, as the short side of a test with one spatial crop.",
            ),
            "TRAIN_JITTER_SCALES_RELATIVE": Key(
                [],
                "Training: [least, most] share of the frame's area that a random crop covers (Inception crop). Empty: short-side jitter.",
            ),
            "TRAIN_JITTER_ASPECT_RELATIVE": Key(
                [0.75, 1.3333], "Training: [least, most] aspect ratio of the Inception crop."
            ),
            "INV_UNIFORM_SAMPLE": Key(
                False,
                "Training: draw the inverse of the jittered short side evenly, instead of the short side.",
            ),
            "TRAIN_CROP_SIZE": Key(
                224, "Side of a training crop in pixels, the size the model is built for."
            ),
            "TEST_CROP_SIZE": Key(224, "Side of a validation or test crop in pixels."),
            "RANDOM_FLIP": Key(
                True, "Training: mirror half of the clips. Off where left and right matter (SSv2)."
            ),
            "FLIP_SWAPS_LABELS": Key(
                False,
                "With RANDOM_FLIP: a mirrored clip gets the class whose name has left and right exchanged; a class with such a word and no counterpart is not mirrored. Needs class names.",
            ),
            "INPUT_CHANNEL_NUM": Key([3], "Channels of a frame."),
            "MEAN": Key([0.45, 0.45, 0.45], "Mean per channel, of pixel values in 0 ... 1."),
            "STD": Key([0.225, 0.225, 0.225], "Standard deviation per channel."),
            "REVERSE_INPUT_CHANNEL": Key(
                False, "Feed BGR instead of RGB, with MEAN and STD in that order too."
            ),
            "MAX_BAD_FRACTION": Key(
                0.1,
                "Training: largest share of an epoch's samples that may be replaced because their video cannot be decoded; beyond it the run stops. The videos are listed in OUTPUT_DIR/bad_videos.jsonl.",
            ),
            "ENSEMBLE_METHOD": Key(
                "sum",
                "How the views of a video are combined: mean or maximum of their softmax.",
                ("sum", "max"),
            ),
        },
    ),
    "AUG": Section(
        "Training augmentation, applied to the cropped clip on the device; every choice is drawn once per clip, so that its frames agree.",
        {
            "ENABLE": Key(
                False, "Augment training clips beyond crop and flip, as the keys below say."
            ),
            "NUM_SAMPLE": Key(
                1, "Clips cut from each decoded training video (repeated augmentation)."
            ),
            "COLOR_JITTER": Key(
                0.4,
                "Brightness, contrast and saturation by factors in 1 - x ... 1 + x, where AA_TYPE is empty. 0: off.",
            ),
            "AA_TYPE": Key(
                "rand-m7-n4-mstd0.5-inc1",
                "RandAugment: `rand`, then any of m (magnitude 0 ... 10), n (operations), p (probability of each), mstd (standard deviation of the magnitude), inc (1: operations that grow stronger with it). Empty: none.",
            ),
            "INTERPOLATION": Key(
                "bicubic",
                "How RandAugment's rotations, shears and translations read between pixels.",
                ("bicubic", "bilinear"),
            ),
            "RE_PROB": Key(0.25, "Share of the clips with randomly erased boxes. 0: off."),
            "RE_MODE": Key(
                "pixel",
                "What erased boxes are filled with: noise per pixel, one random colour per frame, or the mean.",
                ("pixel", "rand", "const"),
            ),
            "RE_COUNT": Key(1, "Most erased boxes of a clip."),
        },
    ),
    "MIXUP": Section(
        "Mixed labels.",
        {
            "ENABLE": Key(False, "Mix the clips and labels of a batch."),
            "ALPHA": Key(0.8, "Mixup's share is drawn from Beta(ALPHA, ALPHA). 0: no mixup."),
            "CUTMIX_ALPHA": Key(
                1.0,
                "CutMix's share is drawn from Beta(CUTMIX_ALPHA, CUTMIX_ALPHA). 0: no CutMix.",
            ),
            "PROB": Key(1.0, "Chance of mixing."),
            "SWITCH_PROB": Key(0.5, "Chance of CutMix where mixup and CutMix are both on."),
            "MODE": Key(
                "batch",
                "batch: one choice and one share for all clips of a step; elem: for each clip.",
                ("batch", "elem"),
            ),
            "LABEL_SMOOTH_VALUE": Key(0.0, "Label smoothing."),
        },
    ),
    "SOLVER": Section(
        "Optimiser and schedule. Learning rates are for REFERENCE_BATCH_SIZE clips per update and scaled to the run's own number.",
        {
            "OPTIMIZING_METHOD": Key("adamw", "Optimiser.", ("adamw", "sgd")),
            "BASE_LR": Key(1e-4, "Learning rate after warm-up."),
            "REFERENCE_BATCH_SIZE": Key(
                0,
                "Clips per update that BASE_LR, WARMUP_START_LR and COSINE_END_LR are stated for. 0: they are used as they stand.",
            ),
            "LR_SCALING": Key(
                "linear",
                "How learning rates follow the clips per update: in proportion, or with its square root.",
                ("linear", "sqrt"),
            ),
            "COSINE_END_LR": Key(0.0, "Learning rate at the end of the cosine."),
            "COSINE_AFTER_WARMUP": Key(
                True, "The cosine starts where the warm-up ends, instead of at epoch 0 below it."
            ),
            "WARMUP_EPOCHS": Key(0.0, "Epochs of linear warm-up."),
            "WARMUP_START_LR": Key(0.0, "Learning rate at the first step of the warm-up."),
            "MAX_EPOCH": Key(200, "Epochs of training."),
            "BETAS": Key([0.9, 0.999], "AdamW's betas."),
            "MOMENTUM": Key(0.9, "SGD's momentum."),
            "NESTEROV": Key(True, "SGD with Nesterov momentum."),
            "WEIGHT_DECAY": Key(0.05, "Weight decay."),
            "ZERO_WD_1D_PARAM": Key(
                True, "No weight decay on biases and one-dimensional parameters."
            ),
            "CLIP_GRAD_L2NORM": Key(
                0.0,
                "Largest L2 norm of all gradients together; larger ones are scaled down. 0: off.",
            ),
            "LAYER_DECAY": Key(
                1.0,
                "Factor on the learning rate from each block to the one before it, for fine-tuning. 1: all alike.",
            ),
            "ACCUMULATE_STEPS": Key(
                1,
                "Parts that the TRAIN.BATCH_SIZE videos of an update are computed in, one after the other: same update, less memory.",
            ),
            "EMA_DECAY": Key(
                0.0,
                "Decay of the exponential moving average of the weights, which is then validated and tested. 0: off.",
            ),
            "EMA_WARMUP": Key(
                10.0,
                "The decay of update t, counted from 0, is at most (1 + t) / (EMA_WARMUP + t), so that the average soon forgets the weights that training began with. 1: no warm-up.",
            ),
        },
    ),
    "TRAIN": Section(
        "The training phase.",
        {
            "ENABLE": Key(True, "Train."),
            "DATASET": Key(
                "kinetics",
                "Kind of list: kinetics (`path label` lines), ssv2 (official JSON files) or imagenet (train/<class>/<image> and val/<class>/<image>).",
                ("kinetics", "ssv2", "imagenet"),
            ),
            "BATCH_SIZE": Key(16, "Videos per update, over all ranks (not per GPU)."),
            "PRECISION": Key(
                "float32", "Number format of the forward and backward pass (autocast).", _PRECISIONS
            ),
            "MEMORY_BUDGET": Key(
                0.0,
                "GiB that a training step may take on each rank: the fewest blocks are recomputed in the backward pass with which it fits, whatever MODEL.ACT_CHECKPOINT says. Computed beforehand, without what CUDA and fragmentation add: leave a tenth of the GPU to them. 0: no budget.",
            ),
            "FSDP": Key(
                False,
                "Shard weights, gradients and optimiser over the ranks (FSDP2) instead of keeping a copy on each (DDP). For models that do not fit otherwise; checkpoints are sharded too.",
            ),
            "EVAL_PERIOD": Key(
                1, "Epochs between two validations; the last epoch is always validated. 0: never."
            ),
            "CHECKPOINT_PERIOD": Key(
                1, "Epochs between two checkpoints; the last epoch always has one."
            ),
            "CHECKPOINT_STEPS": Key(
                500, "Updates between two checkpoints inside an epoch. 0: none."
            ),
            "KEEP_CHECKPOINTS": Key(3, "Newest checkpoints kept; the best one is kept besides."),
            "AUTO_RESUME": Key(
                True, "Go on from the newest checkpoint in OUTPUT_DIR if there is one."
            ),
            "CHECKPOINT_ALLOW": Key(
                [],
                "Regular expressions of tensors that CHECKPOINT_FILE_PATH may lack, or have beyond the model's, such as a pre-training's decoder.",
            ),
            "NONFINITE": Key(
                "raise",
                "What follows an update whose loss or gradient is not finite, on any rank; it never reaches the weights. raise: the run stops; skip: it goes on with the next batch; rollback: it goes back to the newest checkpoint and shuffles the rest of that epoch anew. The batch is written to OUTPUT_DIR/nonfinite, for tools/replay.py.",
                ("raise", "skip", "rollback"),
            ),
            "NONFINITE_LIMIT": Key(
                10,
                "With NONFINITE skip or rollback: such updates in a run before it stops after all.",
            ),
            "LINEAR_PROBE": Key(
                False,
                "Train the head alone; all else is frozen, as it is evaluated. For TRAIN.CHECKPOINT_FILE_PATH's weights.",
            ),
            "CHECKPOINT_FILE_PATH": Key(
                "",
                "Weights to start from (a checkpoint of this or another project); training starts at epoch 0.",
            ),
        },
    ),
    "TEST": Section(
        "The multi-view test.",
        {
            "ENABLE": Key(True, "Test, after training if both are on."),
            "DATASET": Key(
                "kinetics", "Kind of list, as TRAIN.DATASET.", ("kinetics", "ssv2", "imagenet")
            ),
            "BATCH_SIZE": Key(8, "Videos per step, over all ranks (not per GPU)."),
            "PRECISION": Key(
                "float32", "Number format of the forward pass (autocast).", _PRECISIONS
            ),
            "CUDA_GRAPHS": Key(
                False,
                "On a GPU, record the forward pass as a CUDA graph and replay it: for passes so short that the GPU waits for Python.",
            ),
            "NUM_ENSEMBLE_VIEWS": Key(5, "Clips per video, evenly over its length."),
            "NUM_SPATIAL_CROPS": Key(
                1, "Crops per clip: 1 (centre) or 3 along the long side.", (1, 3)
            ),
            "CHECKPOINT_FILE_PATH": Key(
                "",
                "Weights to test. Empty: the newest checkpoint in OUTPUT_DIR, else TRAIN.CHECKPOINT_FILE_PATH.",
            ),
            "RANDOM_WEIGHTS": Key(
                False,
                "Test a model that was never trained (to measure speed). Without it, a test with no weights is refused.",
            ),
            "SHUFFLE_FRAMES": Key(
                False,
                "Shuffle each clip's frames: a model that still does well does not read their order.",
            ),
        },
    ),
    "DATA_LOADER": Section(
        "Loading.",
        {
            "NUM_WORKERS": Key(
                -1,
                "Loader processes per rank; 0: load in the training process; -1: one per core that this rank may use, at most 8.",
            ),
            "PIN_MEMORY": Key(
                True, "Copy batches to page-locked memory, which makes their way to a GPU faster."
            ),
            "PREFETCH_FACTOR": Key(2, "Batches each worker prepares ahead."),
        },
    ),
    "TENSORBOARD": Section(
        "TensorBoard.",
        {"ENABLE": Key(False, "Write scalars to OUTPUT_DIR/tensorboard (extra `tensorboard`).")},
    ),
}
