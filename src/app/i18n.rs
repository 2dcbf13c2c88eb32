//! The window's words in English and Simplified Chinese, a table with a row for each: a word that is missing in one of them does
//! not compile. Reasons of errors come from the engine in English, as on the command line.

use super::settings::Language;

/// A text with places, `{}`, to fill in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template(pub &'static str);

impl Template {
    /// The text with its places filled in order.
    pub fn fill(self, values: &[&str]) -> String {
        let mut values = values.iter();
        let mut out = String::new();
        for (index, piece) in self.0.split("{}").enumerate() {
            if index > 0 {
                out.push_str(values.next().unwrap_or(&""));
            }
            out.push_str(piece);
        }
        out
    }
}

macro_rules! kind {
    (text) => { &'static str };
    (filled) => { Template };
    (list) => { &'static [&'static str] };
}

macro_rules! value {
    (text $value:expr) => {
        $value
    };
    (filled $value:expr) => {
        Template($value)
    };
    (list $value:expr) => {
        &$value
    };
}

macro_rules! texts {
    ($($name:ident: $kind:ident, $english:expr, $chinese:expr;)*) => {
        /// Every text of the window in one language.
        pub struct Texts { $(pub $name: kind!($kind),)* }
        pub static ENGLISH: Texts = Texts { $($name: value!($kind $english),)* };
        pub static CHINESE: Texts = Texts { $($name: value!($kind $chinese),)* };
        /// Names, and both languages, of the texts that are filled.
        #[cfg(test)]
        const FILLED: &[(&str, &str, &str)] = &[$((stringify!($name), pick!($kind $english), pick!($kind $chinese)),)*];
    };
}

#[cfg(test)]
macro_rules! pick {
    (filled $value:expr) => {
        $value
    };
    ($kind:ident $value:expr) => {
        ""
    };
}

/// The texts of a language; the system's own where that is the wish.
pub fn texts(language: Language) -> &'static Texts {
    match language {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
        Language::System if system_is_chinese() => &CHINESE,
        Language::System => &ENGLISH,
    }
}

fn system_is_chinese() -> bool {
    static CHINESE: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| sys_locale::get_locale().is_some_and(|locale| locale.to_ascii_lowercase().starts_with("zh")));
    *CHINESE
}

texts! {
    // The frame of the window.
    new_chat: text, "New chat", "新对话";
    search: text, "Search", "搜索";
    search_hint: text, "Search all chats", "搜索所有对话";
    nothing_found: text, "Nothing found", "没有找到";
    settings: text, "Settings", "设置";
    chat_settings: text, "Settings of this chat", "此对话的设置";
    palette: text, "Commands", "命令";
    palette_hint: text, "Type a command, a model or a chat…", "输入命令、模型或对话…";
    sidebar: text, "Sidebar", "侧边栏";
    show_sidebar: text, "Show the sidebar", "显示侧边栏";
    hide_sidebar: text, "Hide the sidebar", "隐藏侧边栏";
    close: text, "Close", "关闭";
    cancel: text, "Cancel", "取消";
    save: text, "Save", "保存";
    dismiss: text, "Dismiss", "知道了";
    automatic: text, "Automatic", "自动";

    // The sidebar.
    pinned: text, "Pinned", "已置顶";
    today: text, "Today", "今天";
    yesterday: text, "Yesterday", "昨天";
    last_week: text, "Previous 7 days", "过去 7 天";
    last_month: text, "Previous 30 days", "过去 30 天";
    older: text, "Older", "更早";
    no_chats: text, "No chats yet", "还没有对话";
    untitled: text, "New chat", "新对话";
    chat_menu: text, "More for this chat", "更多操作";
    rename: text, "Rename", "重命名";
    rename_chat: text, "Rename this chat", "重命名此对话";
    pin: text, "Pin", "置顶";
    unpin: text, "Unpin", "取消置顶";
    delete: text, "Delete", "删除";
    delete_chat: text, "Delete this chat", "删除此对话";
    next_chat: text, "Next chat", "下一个对话";
    previous_chat: text, "Previous chat", "上一个对话";
    export_markdown: text, "Export as Markdown…", "导出为 Markdown…";
    export_json: text, "Export as JSON…", "导出为 JSON…";
    export_all: text, "Export all chats…", "导出所有对话…";
    import: text, "Import chats…", "导入对话…";

    // The empty chat.
    welcome: text, "What would you like to know?", "想聊点什么？";
    answers_here: filled, "{} answers on this machine; nothing leaves it.", "{} 在本机回答，内容不会离开这台电脑。";
    welcome_hint: filled, "Drop a text file or a model here · {} for commands", "可将文本文件或模型拖到这里 · {} 打开命令面板";
    starters: list, ["Explain how tides work", "Write a haiku about rain", "Plan a week of simple dinners"],
        ["解释潮汐是如何形成的", "写一首关于雨的短诗", "安排一周的简单晚餐"];

    // Writing.
    ask_hint: text, "Ask anything", "输入问题";
    message_field: text, "Message", "消息";
    send: text, "Send", "发送";
    stop: text, "Stop", "停止";
    attach: text, "Attach text files", "添加文本文件";
    remove_file: filled, "Remove {}", "移除 {}";
    thinking_auto: text, "Think: auto", "思考：自动";
    thinking_on: text, "Think: on", "思考：开";
    thinking_off: text, "Think: off", "思考：关";
    thinking_setting: text, "Thinking", "思考";
    thinking_hint: text, "Whether the model thinks before it answers: as it does by itself, always, or never.", "模型回答前是否先思考：由模型决定、总是、从不。";
    drop_files: text, "Drop to attach", "松开以添加附件";
    drop_model: text, "Drop to open the model", "松开以打开模型";

    // Messages.
    thinking: filled, "Thinking… {}", "思考中… {}";
    thought_for: filled, "Thought for {}", "思考了 {}";
    thoughts: text, "Thoughts", "思考过程";
    fold_thoughts: text, "Fold thoughts", "收起思考过程";
    unfold_thoughts: text, "Unfold thoughts", "展开思考过程";
    waiting: text, "Waiting for its turn…", "排队中…";
    waiting_for_model: text, "Waiting for the model…", "正在等待模型…";
    reading_prompt: filled, "Reading: {} of {} tokens", "正在读取：{} / {} 个词元";
    copy_answer: text, "Copy answer", "复制回答";
    copy_question: text, "Copy question", "复制问题";
    copy_code: text, "Copy code", "复制代码";
    copied: text, "Copied", "已复制";
    regenerate: text, "Another answer", "重新回答";
    go_on: text, "Continue answer", "继续回答";
    edit_message: text, "Edit message", "编辑消息";
    edit_last: text, "Edit the last question", "编辑上一个问题";
    delete_message: text, "Delete message", "删除消息";
    previous_branch: text, "Previous version", "上一个版本";
    next_branch: text, "Next version", "下一个版本";
    to_the_end: text, "To the newest line", "跳到最新";
    answer_stats: filled, "{} tokens · {} tokens/s · first after {}", "{} 个词元 · {} 词元/秒 · 首词元 {}";
    seconds: filled, "{} s", "{} 秒";
    minutes: filled, "{} min {} s", "{} 分 {} 秒";

    // What must be said.
    undo: text, "Undo", "撤销";
    chat_deleted: text, "Chat deleted", "对话已删除";
    chat_deleted_named: filled, "“{}” deleted", "已删除“{}”";
    message_deleted: text, "Message deleted", "消息已删除";
    messages_deleted: filled, "{} messages deleted", "已删除 {} 条消息";
    not_stored: text, "Chats are kept in memory only and are lost when the window is closed.", "对话只保存在内存中，关闭窗口后会丢失。";
    store_failing: text, "Changes cannot be saved for now; they are kept and tried again.", "暂时无法保存更改；更改已保留，会继续重试。";
    store_damaged: text, "The file of chats was damaged. It was set aside, and a new one was begun.", "对话文件已损坏，已另行保留并新建了文件。";
    rebuilding: text, "The device was lost. The model is loaded again; the chat goes on where it was.", "设备已断开，正在重新加载模型，对话会从中断处继续。";
    rebuilt: text, "The device was lost and works again.", "设备曾断开，现已恢复。";
    rebuild_failed: text, "The device was lost and the model could not be loaded again.", "设备已断开，且模型无法重新加载。";
    model_failed: filled, "{} could not be opened.", "无法打开 {}。";
    model_failed_kept: filled, "{} could not be opened; the model from before still runs.", "无法打开 {}；之前的模型仍在运行。";
    turned_off: filled, "This device computes wrongly with {}: it is not used.", "此设备使用 {} 时计算有误，已停用。";
    file_failed: text, "A file could not be used.", "文件无法使用。";
    exported: text, "Exported", "已导出";
    imported: filled, "Chats imported: {}", "已导入对话：{}";
    too_long: filled, "This chat has {} tokens; the context holds {}.", "此对话有 {} 个词元，而上下文只能容纳 {} 个。";
    too_long_drop: filled, "Leaving out the {} oldest messages would do. They stay in the chat; the model just does not read them.", "省略最早的 {} 条消息即可。它们仍保留在对话中，只是模型不再读取。";
    too_long_alone: text, "Even the last question alone is too long: shorten it, or choose a model with a larger context.", "最后一个问题本身就过长：请缩短它，或选择上下文更大的模型。";
    leave_it: text, "Leave it", "暂不处理";
    drop_oldest: text, "Leave out the oldest", "省略最早的消息";
    raise_context: filled, "Raise the context to {}", "将上下文增至 {}";
    reads_part: text, "The model reads only the later part of this chat.", "模型只读取此对话的后半部分。";
    read_all: text, "Read all of it", "读取全部";

    // Models.
    model: text, "Model", "模型";
    models: text, "Models", "模型";
    choose_model: text, "Choose a model", "选择模型";
    no_model: text, "No model is open.", "没有打开的模型。";
    default_model: filled, "{} (built in)", "{}（内置）";
    open_model: filled, "Open {}", "打开 {}";
    unload: text, "Unload", "卸载";
    unload_model: text, "Unload the model", "卸载模型";
    forget_model: text, "Forget this model", "从列表移除";
    loading: filled, "Loading {}", "正在加载 {}";
    measuring_device: text, "Measuring this graphics device, once", "正在测量此图形设备（仅一次）";
    downloading: filled, "Downloading {} of {}", "正在下载 {}，共 {}";
    downloading_unknown: filled, "Downloading, {} so far", "正在下载，已完成 {}";
    model_address: text, "Address of a GGUF file or of a model's folder (https://…)", "GGUF 文件或模型目录的地址（https://…）";
    add: text, "Add", "添加";
    remove_model: text, "Delete it from this browser", "从此浏览器中删除";
    storage: text, "Storage", "存储";
    storage_used: text, "Used by this page", "此页面已用";
    storage_of: filled, "{} of {} that the browser allows", "{}，浏览器允许 {}";
    storage_kept: text, "The browser keeps it until you delete it", "浏览器会一直保留，直到您删除";
    storage_may_go: text, "The browser may delete it when the disk fills up", "磁盘空间不足时浏览器可能会删除";
    storage_keep: text, "Keep it", "保留";
    load_progress: text, "Load progress", "加载进度";
    opening_device: text, "Opening the device…", "正在打开设备…";
    cancel_loading: text, "Cancel loading", "取消加载";
    looking_for_models: text, "Looking for models…", "正在查找模型…";
    no_models: text, "No models found", "没有找到模型";
    look_again: text, "Look again", "重新查找";
    open_file: text, "Open a file…", "打开文件…";
    open_folder: text, "Open a folder…", "打开文件夹…";
    models_hint: text, "GGUF files and folders in the Hugging Face layout (safetensors). Drop one on the window to open it.", "支持 GGUF 文件和 Hugging Face 格式的文件夹（safetensors）。拖到窗口上即可打开。";
    experts_of: filled, "{} experts, {} a token", "{} 个专家，每词元 {} 个";
    fits: text, "Fits", "可容纳";
    fits_hint: text, "There is memory enough for the model and a long chat.", "内存足够容纳模型和长对话。";
    tight: text, "Tight", "紧张";
    tight_hint: text, "It goes into memory with little room for context.", "可装入内存，但上下文空间很小。";
    too_large: text, "Too large", "过大";
    too_large_hint: text, "Its weights are larger than the memory of this device.", "权重超过了此设备的内存。";
    fit_unknown: text, "Unknown", "未知";
    fit_unknown_hint: text, "The device does not tell how much memory it has.", "此设备不报告内存大小。";

    // Meters.
    tokens_per_sec: filled, "{} tokens/s", "{} 词元/秒";
    first_token: filled, "first token {}", "首词元 {}";
    context: text, "Context", "上下文";
    context_of: filled, "{} / {} tokens", "{} / {} 词元";
    context_hint: text, "Tokens of this chat, draft included, and how many the context holds.", "此对话（含草稿）的词元数与上下文容量。";
    context_near: filled, "{} of {} tokens", "已用 {} / {} 词元";
    context_near_hint: text, "The context is almost full. When it is, you are asked what to leave out.", "上下文即将用满。用满时会询问如何处理。";
    memory: filled, "{}", "{}";
    memory_of: filled, "{} of {}", "{} / {}";
    memory_hint: text, "Device memory that the model and its cache hold.", "模型及其缓存占用的设备内存。";
    software_adapter: text, " (software)", "（软件渲染）";

    // Settings.
    this_chat: text, "This chat", "此对话";
    general: text, "General", "通用";
    device: text, "Device", "设备";
    presets: text, "Presets", "预设";
    preset_name: text, "Name of a preset", "预设名称";
    save_preset: text, "Save as preset", "保存为预设";
    use_preset: filled, "Use preset {}", "使用预设 {}";
    delete_preset: text, "Delete preset", "删除预设";
    instructions: text, "Instructions", "系统提示词";
    instructions_hint: text, "What the model should always keep in mind", "模型应始终遵循的要求";
    sampling: text, "Sampling", "采样";
    recommended: text, "as recommended", "推荐值";
    as_recommended: text, "As the model recommends", "恢复推荐值";
    temperature: text, "Temperature", "温度";
    temperature_hint: text, "0 always takes the likeliest token; more is more varied.", "0 总是选择最可能的词元，越大越多样。";
    top_p_hint: text, "Only the likeliest tokens that together have this probability.", "只从累计概率达到此值的词元中选择。";
    top_k_hint: text, "Only so many of the likeliest tokens; 0 is all.", "只从最可能的若干词元中选择；0 表示全部。";
    min_p_hint: text, "Only tokens with at least this share of the likeliest one's probability.", "只选择概率不低于最高概率此比例的词元。";
    seed: text, "Fixed seed", "固定种子";
    seed_hint: text, "The same seed, model, device and settings give the same answer.", "相同的种子、模型、设备和设置会得到相同的回答。";
    seed_random: text, "another for each answer", "每次不同";
    lengths: text, "Lengths", "长度";
    context_setting_hint: text, "Tokens of chat and answer together.", "对话与回答的总词元数。";
    most_tokens: text, "Longest answer", "回答长度上限";
    most_tokens_hint: text, "New tokens of an answer at most.", "一次回答最多生成的词元数。";
    no_limit: text, "no limit", "不限";
    use_for_new_chats: text, "Use for new chats", "用于新对话";
    reset_all: text, "All as recommended", "全部恢复推荐值";
    theme: text, "Theme", "主题";
    theme_is: filled, "Theme: {}", "主题：{}";
    theme_system: text, "System", "跟随系统";
    theme_light: text, "Light", "浅色";
    theme_dark: text, "Dark", "深色";
    language: text, "Language", "语言";
    language_system: text, "System", "跟随系统";
    zoom: text, "Zoom", "缩放";
    zoom_hint: text, "Also by Ctrl + and Ctrl −.", "也可用 Ctrl + 和 Ctrl −。";
    chats: text, "Chats", "对话";
    data_folder: text, "Data folder", "数据文件夹";
    data_folder_hint: text, "Chats that are in the chosen folder are used; an empty one gets a copy of these.", "若所选文件夹中已有对话则使用它们，否则复制当前对话。";
    change_folder: text, "Change…", "更改…";
    in_memory: text, "in memory only", "仅在内存中";
    backup: text, "Backup", "备份";
    model_folders: text, "Folders with models", "模型文件夹";
    add_folder: text, "Add a folder…", "添加文件夹…";
    remove_folder: filled, "Remove {}", "移除 {}";
    device_hint: text, "A change here loads the model again.", "更改后会重新加载模型。";
    adapter: text, "Adapter", "显卡";
    adapter_hint: text, "Which device computes.", "使用哪个设备计算。";
    backend: text, "Backend", "后端";
    memory_budget: text, "Memory budget", "内存上限";
    memory_budget_hint: text, "The most device memory to use.", "最多使用的设备内存。";
    abilities: text, "Abilities", "硬件特性";
    abilities_hint: text, "Turn one off where a driver computes wrongly with it.", "若驱动使用某项特性时出错，可将其关闭。";
    deterministic: text, "Deterministic", "确定性";
    deterministic_on: text, "The same sums whatever runs beside", "无论同时运行什么，求和顺序都相同";
    deterministic_hint: text, "Answers do not depend on what is computed at the same time; a little slower.", "回答不受同时进行的计算影响，速度略慢。";
    apply_device: text, "Apply and reload", "应用并重新加载";

    // The inside view.
    inside: text, "Inside the model", "模型内部";
    close_inside: text, "Close the inside view", "关闭内部视图";
    inside_empty: text, "The next answer is watched while this panel is open.", "此面板打开时，会观察下一个回答。";
    dense_model: text, "This model has no experts to choose from: every token takes the whole network.", "此模型没有可选的专家：每个词元都经过整个网络。";
    takes_all_experts: text, "This model's routers take all experts for every token, so there is no choice to show.", "此模型的路由器对每个词元都使用全部专家，因此没有可显示的选择。";
    layers_of: filled, "{} layers · {} billion parameters", "{} 层 · {} 十亿参数";
    shared_experts: filled, " and {} shared", "，另有 {} 个共享专家";
    experts_used: text, "Experts used", "专家使用情况";
    tokens_count: filled, "{} tokens", "{} 个词元";
    heat_map_hint: text, "A row for each layer, a column for each expert. Outlined: the token shown below.", "每行一层，每列一个专家。描边：下方所示词元的选择。";
    heat_map_cell: filled, "Layer {}, expert {}: {} tokens ({})", "第 {} 层，专家 {}：{} 个词元（{}）";
    evenness: text, "Evenness of load", "负载均衡度";
    evenness_hint: text, "100 % when all experts of a layer are used alike, 0 % when one does everything. A bar for each layer.", "一层中所有专家使用相同时为 100 %，全由一个承担时为 0 %。每层一条。";
    layer_share: filled, "Layer {}: {}", "第 {} 层：{}";
    confidence: text, "Router confidence", "路由置信度";
    confidence_hint: text, "How decided the routers were among the experts they chose, token by token: 0 % when all weigh alike, 100 % when one has all the weight.", "路由器在所选专家之间的倾向，逐词元显示：权重相同时为 0 %，集中于一个时为 100 %。";
    this_token: text, "Token under the pointer", "指针所指词元";
    newest_token: text, "Newest token", "最新词元";
    hover_hint: text, "Point at a word of the answer to see what else it could have been.", "将指针移到回答的文字上，可查看其他候选。";
    layer_experts: filled, "Layer {}: {}", "第 {} 层：{}";
    more_layers: filled, "and {} more layers, outlined above", "其余 {} 层见上方描边";
    latent_cache: text, "Latent cache", "潜在缓存";
    latent: text, "Latents", "潜在向量";
    full_keys_values: text, "Full keys, values", "完整键值";
    times_smaller: filled, "{}× smaller", "缩小 {} 倍";
    cache_at: filled, "for {} tokens, at {} a token instead of {}", "共 {} 个词元，每词元 {}，而非 {}";
    kernel_times: text, "Time of a token by kernel", "每个词元各内核耗时";
    measure_kernels: text, "Measure", "测量";
    measure_kernels_hint: text, "Computes one token with time stamps on the device.", "在设备上带时间戳计算一个词元。";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in_order() {
        assert_eq!(Template("{} of {}").fill(&["1", "2"]), "1 of 2");
        assert_eq!(Template("{} of {}").fill(&["1"]), "1 of ");
        assert_eq!(Template("plain").fill(&["1"]), "plain");
    }

    #[test]
    fn both_languages_have_as_many_places() {
        for (name, english, chinese) in FILLED {
            assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{name}");
        }
        assert!(FILLED.iter().any(|(_, english, _)| english.contains("{}")));
    }

    #[test]
    fn languages_differ() {
        assert_eq!(texts(Language::English).new_chat, "New chat");
        assert_eq!(texts(Language::Chinese).new_chat, "新对话");
        assert_eq!(ENGLISH.starters.len(), CHINESE.starters.len());
    }
}
