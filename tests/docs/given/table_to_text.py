"""What the tutorial takes for granted: a decoder, here one that has learnt nothing."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dpft.recipes.decoder.tokenizer import train_tokenizer
from dpft.recipes.embedded.visits import visits

seen = visits("train", 200)
cells = [f"{slot} : {value} |" for visit in seen for slot, value in visit.table]
notes = [note for visit in seen for note in visit.notes]
tokenizer = train_tokenizer(cells + notes, 1000)
tokenizer.save_pretrained("decoder")
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(tokenizer),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
LlamaForCausalLM(config).save_pretrained("decoder")
