/** Fathom's engine in a page: a language model on WebGPU, in a worker of its own. */

export interface Message {
    role: 'system' | 'user' | 'assistant' | 'tool';
    content: string;
}

export interface Progress {
    phase: 'download' | 'load';
    /** Bytes so far, and in all where the server tells. */
    done: number;
    total: number | null;
}

export interface LoadOptions {
    /** Address of a GGUF file, or of a folder in the Hugging Face layout (ending in `/`); `#sha256=…` is checked. None: the page's own. */
    model?: string | null;
    /** Tokens of prompt and answer together. */
    context?: number | null;
    /** Abilities of the GPU not to use: 'Subgroups', 'F16', 'Barriers'. */
    disable?: string[];
    onProgress?: (progress: Progress) => void;
    signal?: AbortSignal;
}

export interface Sampling {
    temperature?: number;
    top_k?: number;
    top_p?: number;
    min_p?: number;
    seed?: number;
}

export interface AnswerOptions {
    maxTokens?: number | null;
    sampling?: Sampling;
    /** The answer ends before the first of these. */
    stop?: string[];
    /** Asks for reasoning or for none, where the model knows the choice. */
    thinking?: boolean | null;
    ignoreEos?: boolean;
    signal?: AbortSignal;
}

export interface Summary {
    stop: 'Eos' | 'Length' | 'Cancelled' | { Stop: string };
    ids: number[];
    text: string;
    reasoning: string;
    stats: { prompt_tokens: number; reused_tokens: number; new_tokens: number; first_token_secs: number; decode_secs: number };
}

export interface Piece {
    /** A piece of the answer, often empty. */
    text: string;
    reasoning?: string;
    prefill?: { done: number; total: number };
    /** On the last piece. */
    done?: Summary;
}

export class Fathom {
    /** Downloads what is missing, opens the model, and is ready to answer. */
    static load(options?: LoadOptions): Promise<Fathom>;
    /** Opens another model in place of this one, on the same device, where most kernels are compiled already. Where it fails, `model` tells
        whether the one before is still there. */
    open(options?: LoadOptions): Promise<void>;
    /** What the engine says of the model; null where none is open. */
    readonly model: { name: string; architecture: string; context: number; max_positions: number; weight_bytes: number } | null;
    /** The answer to a conversation, piece by piece. Leaving the loop stops it. */
    chat(messages: Message[], options?: AnswerOptions): AsyncGenerator<Piece, void>;
    /** The same after token ids, fed as they are. */
    generate(ids: number[], options?: AnswerOptions): AsyncGenerator<Piece, void>;
    /** Stops every answer that runs. */
    stop(): void;
    /** Ends the engine and frees the GPU. Downloaded models stay. */
    unload(): void;
}
